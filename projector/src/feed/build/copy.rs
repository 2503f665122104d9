//! The binary format of PostgreSQL's `COPY`, as far as numbers need it.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

/// Signature, no flags, no extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Says that no row follows.
pub(super) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Appends a row of two columns of type `bigint`, each after its length in bytes.
pub(super) fn row(copied: &mut Vec<u8>, values: [i64; 2]) {
    copied.extend_from_slice(&2_i16.to_be_bytes());
    for value in values {
        copied.extend_from_slice(&8_i32.to_be_bytes());
        copied.extend_from_slice(&value.to_be_bytes());
    }
}

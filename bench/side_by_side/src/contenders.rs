//! Who is measured, a file each.

pub mod disintegrate;
pub mod mire;
pub mod obix;
pub mod postgres_es;
pub mod rookery;

/// All of them, in the order of the table.
pub const NAMES: [&str; 5] =
    [rookery::NAME, postgres_es::NAME, disintegrate::NAME, mire::NAME, obix::NAME];

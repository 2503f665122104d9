//! Reading again after a cut.

use std::io::ErrorKind;

use events::store::Fault;

/// A connection may have been cut since its last use, and all others with it, so that the next one is
/// new. A read changes nothing, so it is simply done again on that.
pub(crate) async fn again_after_a_cut<T, Reading>(
    read: &impl Fn() -> Reading,
) -> Result<T, sqlx::Error>
where
    Reading: Future<Output = Result<T, sqlx::Error>>,
{
    match read().await {
        Err(error) if is_cut(&error) => read().await,
        result => result,
    }
}

/// Whether the connection was cut, rather than the server silent: another wait of that length would
/// help nobody.
fn is_cut(error: &sqlx::Error) -> bool {
    let is_late = matches!(error, sqlx::Error::Io(error) if error.kind() == ErrorKind::TimedOut);
    let is_full = matches!(error, sqlx::Error::PoolTimedOut);
    Fault::of(error).ends_session() && !is_late && !is_full
}

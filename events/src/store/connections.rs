//! Connections to a database, lent to those who use them.
//!
//! **Invariant**: a connection that is lent again is one on which everything came to its end. Whoever
//! drops one in the middle of a statement, because time was up or the client is gone, has closed it;
//! and nothing is asked of the server to find that out. So a server that falls silent keeps no place
//! from those who come after it, and a statement costs one round trip.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use metrics::histogram;
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::fault::{Fault, late};
use super::{Database, Engine};
use crate::metrics::CONNECTION_WAIT;

/// How long a caller waits for a connection before it hears that the service is busy.
const LEND_TIMEOUT: Duration = Duration::from_secs(2);

/// No connection is kept for longer: what a session gathers on the server goes with it, and after
/// the address of a server has moved nobody stays with the old one.
const LIFETIME: Duration = Duration::from_mins(10);

/// At most so many connections. Cheap to clone.
///
/// A reference to it is an executor of single statements, each within the limit that the
/// [`Database`] has for one.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    database: Database,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

struct Session {
    connection: PgConnection,
    engine: Engine,
    opened: Instant,
}

/// A connection in use. Dropping it closes it; [`Lent::give_back`] keeps it for the next.
pub struct Lent {
    session: Session,
    from: Connections,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.0.database).finish()
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lent").field(&self.from).finish()
    }
}

impl Connections {
    pub(super) fn new(database: Database, size: usize) -> Self {
        let (places, idle) = (Arc::new(Semaphore::new(size)), Mutex::default());
        Self(Arc::new(Inner { database, places, idle }))
    }

    /// A connection, for more than one statement.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] when all were in use for too long, another when the server does
    /// not answer or refuses us.
    pub async fn lend(&self) -> Result<Lent, sqlx::Error> {
        let place = match Arc::clone(&self.0.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => self.wait_for_place().await?,
        };
        let idle = loop {
            match self.idle().pop() {
                Some(session) if session.opened.elapsed() > LIFETIME => {}
                idle => break idle,
            }
        };
        let session = if let Some(session) = idle {
            session
        } else {
            let (connection, engine) = self.0.database.open().await?;
            Session { connection, engine, opened: Instant::now() }
        };
        Ok(Lent { session, from: self.clone(), _place: place })
    }

    /// What they lead to.
    ///
    /// # Errors
    /// As [`Self::lend`].
    pub async fn engine(&self) -> Result<Engine, sqlx::Error> {
        let lent = self.lend().await?;
        let engine = lent.engine();
        lent.give_back();
        Ok(engine)
    }

    async fn wait_for_place(&self) -> Result<OwnedSemaphorePermit, sqlx::Error> {
        let began = Instant::now();
        let place = timeout(LEND_TIMEOUT, Arc::clone(&self.0.places).acquire_owned()).await;
        let application = self.0.database.application().to_owned();
        histogram!(CONNECTION_WAIT.name, "application" => application).record(began.elapsed());
        place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)
    }

    /// Closes what is not in use. Where one connection was cut, the others were too: whoever comes
    /// next gets a new one.
    pub fn close_idle(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits a `statement` for as long as one may take.
    async fn within_limit<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let limit = self.0.database.statement_timeout();
        timeout(limit, statement).await.map_err(|_| late(limit))?
    }

    /// Gives `lent` back after a single statement with this `end`, unless that says that the session
    /// is of no more use.
    fn settle<T>(&self, lent: Lent, end: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        match &end {
            Err(error) if Fault::of(error).ends_session() => self.close_idle(),
            _ => lent.give_back(),
        }
        end
    }
}

impl Lent {
    /// What it leads to.
    #[must_use]
    pub const fn engine(&self) -> Engine {
        self.session.engine
    }

    /// Gives the connection back. It has to be between statements, outside a transaction.
    pub fn give_back(self) {
        let Self { session, from, _place } = self;
        from.idle().push(session);
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.session.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.session.connection
    }
}

/// What a statement answers is gathered before the first row of it is seen: it is a page, never a
/// table.
impl<'c> Executor<'c> for &Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        let gathered = async move {
            let mut lent = connections.lend().await?;
            let gathering = lent.fetch_many(query).try_collect::<Vec<_>>();
            let end = connections.within_limit(gathering).await;
            let rows = connections.settle(lent, end)?;
            Ok::<_, sqlx::Error>(stream::iter(rows.into_iter().map(Ok)))
        };
        stream::once(gathered).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let end = connections.within_limit(lent.fetch_optional(query)).await;
            connections.settle(lent, end)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let end = connections.within_limit(lent.prepare_with(sql, parameters)).await;
            connections.settle(lent, end)
        })
    }

    fn describe<'e>(
        self,
        sql: SqlStr,
    ) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        let connections = self.clone();
        Box::pin(async move {
            let mut lent = connections.lend().await?;
            let end = connections.within_limit(lent.describe(sql)).await;
            connections.settle(lent, end)
        })
    }
}

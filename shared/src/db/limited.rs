//! Statements that end after a time also when Postgres says nothing any more: a host that has lost its power, or a
//! firewall that has forgotten a connection, tells nobody, and the client's library would wait for ever.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Execute, Executor, PgPool, PgTransaction, Postgres, SqlStr};
use tokio::time::{Instant, timeout, timeout_at};

/// What `work` on the database comes to; a transient error when it takes longer than `limit`. It is dropped then: what it
/// was about to write may be written or not.
///
/// # Errors
/// Those of `work`, and an I/O error of the kind `TimedOut`.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> sqlx::Error {
    let text = "Postgres does not answer";
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

/// A pool. Each of its statements has the same time.
#[derive(Clone, Debug)]
pub struct LimitedPool {
    pool: PgPool,
    limit: Duration,
}

impl LimitedPool {
    /// `limit` is for taking a connection and one statement.
    pub fn new(pool: PgPool, limit: Duration) -> Self {
        Self { pool, limit }
    }

    /// What `work`, of several statements, comes to within the time of one.
    ///
    /// # Errors
    /// Those of `work`, and a transient one when it takes too long.
    pub async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        within(self.limit, work).await
    }

    /// The connections themselves. What is done with them has no limit but [`within`](Self::within).
    pub fn connections(&self) -> &PgPool {
        &self.pool
    }

    /// Begins a transaction. Dropped, it is rolled back.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.begin_with("begin").await
    }

    /// Begins a transaction by a statement that says what it is like.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn begin_with(&self, statement: &'static str) -> Result<Transaction, sqlx::Error> {
        let transaction = within(self.limit, self.pool.begin_with(statement)).await?;
        Ok(Transaction(InTransaction {
            transaction,
            limit: self.limit,
        }))
    }
}

/// A transaction of a [`LimitedPool`]. `&mut *transaction` is what takes a statement.
#[derive(Debug)]
pub struct Transaction(InTransaction);

impl Transaction {
    /// Makes everything hold.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses; after the former it is not known what holds.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let InTransaction { transaction, limit } = self.0;
        within(limit, transaction.commit()).await
    }
}

impl Deref for Transaction {
    type Target = InTransaction;

    fn deref(&self) -> &InTransaction {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut InTransaction {
        &mut self.0
    }
}

/// Where the statements of a [`Transaction`] are made.
#[derive(Debug)]
pub struct InTransaction {
    transaction: PgTransaction<'static>,
    limit: Duration,
}

/// Ends with an error when it has not ended by itself after `limit`.
fn limited<'e, T: Send + 'e>(
    limit: Duration,
    stream: BoxStream<'e, Result<T, sqlx::Error>>,
) -> BoxStream<'e, Result<T, sqlx::Error>> {
    let deadline = Instant::now() + limit;
    stream::unfold(stream, move |mut stream| async move {
        match timeout_at(deadline, stream.next()).await {
            Ok(next) => next.map(|item| (item, stream)),
            Err(_) => Some((Err(silent()), stream::empty().boxed())),
        }
    })
    .boxed()
}

/// What a statement returns, step by step.
type Steps<'e> = BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>;

/// Makes each statement of an executor, which stands in one of its fields, end within its limit.
macro_rules! limit_statements {
    ($executor:ty, $field:ident) => {
        impl<'c> Executor<'c> for $executor {
            type Database = Postgres;

            fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> Steps<'e>
            where
                'c: 'e,
                E: 'q + Execute<'q, Postgres>,
            {
                limited(self.limit, self.$field.fetch_many(query))
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
            where
                'c: 'e,
                E: 'q + Execute<'q, Postgres>,
            {
                Box::pin(within(self.limit, self.$field.fetch_optional(query)))
            }

            fn prepare_with<'e>(
                self,
                sql: SqlStr,
                parameters: &'e [PgTypeInfo],
            ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
            where
                'c: 'e,
            {
                Box::pin(within(
                    self.limit,
                    self.$field.prepare_with(sql, parameters),
                ))
            }

            fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
            where
                'c: 'e,
            {
                Box::pin(within(self.limit, self.$field.describe(sql)))
            }
        }
    };
}

limit_statements!(&'c LimitedPool, pool);
limit_statements!(&'c mut InTransaction, transaction);

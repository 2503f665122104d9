//! A database for one cell.

use anyhow::Context;
use cargo_metadata::MetadataCommand;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

pub struct Database {
    server: String,
    name: String,
    pub url: String,
}

impl Database {
    /// An empty one on the server of `url`.
    pub async fn create(url: &str) -> anyhow::Result<Self> {
        let name = format!("side_by_side_{}", Uuid::now_v7().simple());
        execute(url, &format!("create database {name}")).await?;
        let (address, _) = url.rsplit_once('/').context("DATABASE_URL ends with /name")?;
        Ok(Self { server: url.to_owned(), url: format!("{address}/{name}"), name })
    }

    /// Runs the SQL that `package` brings along for its tables, in a file of its own folder.
    pub async fn run_file_of(
        &self,
        package: &str,
        file: &str,
        until: Option<&str>,
    ) -> anyhow::Result<()> {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .exec()?;
        let package = metadata
            .packages
            .iter()
            .find(|found| found.name.as_str() == package)
            .with_context(|| format!("{package} is a dependency"))?;
        let path = package.manifest_path.with_file_name(file);
        let sql = std::fs::read_to_string(&path).with_context(|| path.to_string())?;
        let sql = until.and_then(|mark| sql.split(mark).next()).unwrap_or(&sql);
        execute(&self.url, sql).await
    }

    pub async fn remove(self) -> anyhow::Result<()> {
        execute(&self.server, &format!("drop database {} with (force)", self.name)).await
    }
}

async fn execute(url: &str, sql: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await.context("PostgreSQL answers")?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

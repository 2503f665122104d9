//! What a measurement needs before it begins: the servers, and the two programs.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// What `scripts/services.sh env` sets.
const VARIABLES: [&str; 5] =
    ["DATABASE_URL", "AMQP_URL", "RABBITMQ_UI", "RABBITMQ_UI_USER", "RABBITMQ_UI_PASSWORD"];

/// Brings the servers up and begins this program anew with their addresses.
const UP: &str = r#"scripts/services.sh up && services=$(scripts/services.sh env) && eval "$services" && exec "$0" "$@""#;

/// Returns when the servers are known. Where they are not, this program is replaced by one that
/// knows them.
pub fn ensure_up() -> anyhow::Result<()> {
    if VARIABLES.iter().all(|name| std::env::var_os(name).is_some()) {
        return Ok(());
    }
    let error = Command::new("bash")
        .args(["-c", UP])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .current_dir(checkout())
        .exec();
    Err(error).context("bash does not start")
}

/// The folder of the two programs, built as they are now.
pub fn build_programs() -> anyhow::Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    folder.pop();
    ensure!(folder.ends_with("release"), "measure what is released: cargo run --release -p bench");
    let build = ["build", "--release", "--locked", "--quiet", "-p", "api", "-p", "projector"];
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).args(build).current_dir(checkout()).status()?;
    ensure!(built.success(), "api and projector could not be built");
    Ok(folder)
}

/// The folder that the project is in.
pub fn checkout() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

//! The pages of `docs`, whose commands tests run as they stand there.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::PATIENCE;
use crate::process::path_of;

/// The text of a page.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn text(page: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a checkout");
    let path = here.join("docs").join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The commands of a page, block by block.
#[must_use]
pub fn commands(page: &str) -> Vec<String> {
    let text = text(page);
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs `lines` in a shell that finds the two programs, with `variables`.
pub async fn shell(lines: &str, variables: &[(&str, &str)]) -> Output {
    let programs = path_of("api");
    let programs = programs.parent().expect("they are in a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    let running = Command::new("/bin/sh")
        .args(["-ec", lines])
        .env_clear()
        .env("PATH", format!("{programs}:{path}"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    ended.expect("it ends in time").expect("there is a shell")
}

/// The same of lines that have to succeed; what they printed.
///
/// # Panics
/// With what they said when one of them fails.
pub async fn succeed(lines: &str, variables: &[(&str, &str)]) -> String {
    let output = shell(lines, variables).await;
    let (printed, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{lines}{printed}{said}");
    printed.into_owned()
}

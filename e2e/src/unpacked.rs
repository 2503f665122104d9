//! Programs that `scripts/unpacked.sh` has put into the checkout.

use std::path::Path;

/// Where they and their libraries are.
const FOLDER: &str = "../target/tools/debian";

/// The path of one of them, which is in the folder `within`.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program(within: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(within).join(name);
    assert!(path.exists(), "{} is missing: scripts/unpacked.sh", path.display());
    path.display().to_string()
}

/// Where those find libraries that are not installed, as `LD_LIBRARY_PATH` has it.
#[must_use]
pub fn libraries() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let machine = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    root.join(machine).display().to_string()
}

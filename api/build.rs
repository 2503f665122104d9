//! Makes the page's files ready to be embedded: compressed once, here, and under a name that changes when any of
//! them does.
//!
//! `web/index.html` becomes one file for each login, with the address of the others filled in. The rest keeps its
//! name and gets a compressed twin.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

const SOURCE: &str = "web";
const INDEX: &str = "index.html";

/// How callers may say who they are: see `authentication.rs`.
const LOGINS: [&str; 2] = ["user-header", "token"];

/// So many hexadecimal digits of a hash of all files tell two versions of the page apart.
const VERSION_DIGITS: usize = 16;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={SOURCE}");
    let target = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(SOURCE);
    if target.exists() {
        fs::remove_dir_all(&target)?;
    }
    fs::create_dir_all(&target)?;

    let mut files = Vec::new();
    for entry in fs::read_dir(SOURCE)? {
        let entry = entry?;
        let name = entry.file_name().into_string().expect("the page's files have plain names");
        files.push((name, fs::read(entry.path())?));
    }
    files.sort();
    let version = version(&files);
    println!("cargo::rustc-env=ROOKERY_WEB_VERSION={version}");
    for (name, content) in files {
        if name == INDEX {
            let page = String::from_utf8(content).expect("the page is UTF-8");
            let page = page.replace("{assets}", &format!("/assets/{version}"));
            for login in LOGINS {
                write(
                    &target.join(format!("{login}.html")),
                    page.replace("{login}", login).as_bytes(),
                )?;
            }
        } else {
            write(&target.join(name), &content)?;
        }
    }
    Ok(())
}

fn version(files: &[(String, Vec<u8>)]) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(name);
        hash.update([0]);
        hash.update(content.len().to_be_bytes());
        hash.update(content);
    }
    let mut digits = format!("{:x}", hash.finalize());
    digits.truncate(VERSION_DIGITS);
    digits
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut compressed = GzEncoder::new(fs::File::create(name)?, Compression::best());
    compressed.write_all(content)?;
    compressed.finish()?;
    Ok(())
}

//! The units of `deploy/systemd`, installed as `docs/deploying.md` says.

use std::path::Path;
use std::process::Command;

/// The commands of the page that install something, with `root` in the place of the machine's.
fn installing(page: &str, root: &str, programs: &str) -> String {
    let commands: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("install "))
        .map(|line| {
            line.replace(" /opt/", &format!(" {root}/opt/"))
                .replace(" /etc/", &format!(" {root}/etc/"))
                .replace("target/release", programs)
        })
        .collect();
    assert_eq!(commands.len(), 3, "{page}");
    commands.join(" && ")
}

#[test]
fn the_units_are_what_systemd_takes_and_start_programs_that_are_there() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(here.join("docs/deploying.md")).unwrap();
    let mut programs = std::env::current_exe().unwrap();
    programs.pop();
    programs.pop();
    let root = std::env::temp_dir().join(format!("rookery-root-{}", uuid::Uuid::now_v7()));
    let root = root.to_str().unwrap();
    let command = installing(&page, root, programs.to_str().unwrap());
    let installed = Command::new("sh").args(["-ec", &command]).current_dir(here).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));

    let units = ["migrate", "api", "projector"];
    for unit in units {
        let path = format!("{root}/etc/systemd/system/rookery-{unit}.service");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{unit} has no {name}"))
        };
        let program = line("ExecStart=").split(' ').next().unwrap();
        let started = Command::new(format!("{root}{program}")).arg("--version").output().unwrap();
        assert!(started.status.success(), "{program}");
        let variables = format!("{root}{}", line("EnvironmentFile="));
        assert!(std::fs::read_to_string(&variables).unwrap().contains("DATABASE_URL="));
        // What systemd verifies are the programs too, where they are in this root.
        std::fs::write(&path, text.replace("=/opt/", &format!("={root}/opt/"))).unwrap();
    }
    let paths = units.map(|unit| format!("{root}/etc/systemd/system/rookery-{unit}.service"));
    match Command::new("systemd-analyze").arg("verify").args(paths).output() {
        Ok(verified) => {
            let said = String::from_utf8_lossy(&verified.stderr);
            let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("rookery")).collect();
            assert_eq!(of_ours, Vec::<&str>::new(), "{said}");
        }
        Err(why) => println!("systemd did not verify them: {why}"),
    }
    std::fs::remove_dir_all(root).unwrap();
}

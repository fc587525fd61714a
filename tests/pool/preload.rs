//! Libraries that are loaded into a pool before the system's, to bend what the system does.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds `tests/pool/NAME.c` into the folder; where it lies.
pub fn build(name: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/pool/{name}.c"));
    let library = folder.join(format!("{name}.so"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(built.expect("cc, which links this test too").success());
    library
}

/// The environment of a pool whose disk stands still for as long as the file is there; the library lies in the folder.
pub fn stalling_disk(folder: &Path) -> (Vec<(String, String)>, PathBuf) {
    let stall = folder.join("stall");
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let env = vec![
        ("LD_PRELOAD".into(), text(&build("disk", folder))),
        ("MILLRACE_TEST_STALL".into(), text(&stall)),
    ];
    (env, stall)
}

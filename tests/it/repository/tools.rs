//! The script that installs the tools of the tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::kit::process::folder;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Returns a folder with the commands that any machine has, and none that the tests use.
fn bare_machine(folder: &Path) -> String {
    let path = folder.join("bin");
    if path.exists() {
        fs::remove_dir_all(&path).expect("it can be removed");
    }
    fs::create_dir_all(&path).expect("it can be made");
    for command in ["bash", "cat", "dirname", "env", "id", "sed", "sh"] {
        let found = ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(command));
        let found = found.iter().find(|file| file.exists()).expect("every machine has it");
        symlink(found, path.join(command)).expect("it can be linked");
    }
    path.display().to_string()
}

#[test]
fn missing_tools_are_one_line_at_the_end_and_the_tests_run() {
    let folder = folder("tools");
    let output = Command::new(format!("{ROOT}/tests/tools.sh"))
        .args(["with", "sh", "-c", "echo tested; echo talk >&2; exit 3"])
        .env_clear()
        .env("PATH", bare_machine(&folder))
        .env("CARGO_TARGET_DIR", &folder)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "tested\n");
    let lines: Vec<&str> = said.lines().collect();
    let [talk, missing] = &lines[..] else { panic!("expected two lines: {said}") };
    assert_eq!(*talk, "talk", "the line is at the end");
    for tool in ["kcat", "java", "python3", "scipy", "confluent_kafka"] {
        assert!(missing.contains(tool), "{tool} is missing: {missing}");
    }
}

#[test]
fn an_installed_tool_is_not_listed() {
    let folder = folder("tools-with-kcat");
    let path = bare_machine(&folder);
    symlink("/bin/sh", Path::new(&path).join("kcat")).expect("it can be linked");
    let output = Command::new(format!("{ROOT}/tests/tools.sh"))
        .arg("install")
        .env_clear()
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", &folder)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("kcat") && said.contains("mvn"), "{said}");
}

#[test]
fn make_test_and_ci_use_one_install_script() {
    for file in ["Makefile", ".ci/run"] {
        let text = fs::read_to_string(format!("{ROOT}/{file}")).expect("it can be read");
        assert!(text.contains("tests/tools.sh"), "{file} installs by itself");
        assert!(!text.contains("apt-get") && !text.contains("pip install"), "{file}");
    }
}

/// A comma in an argument of make's `$(if)` once cut the command in two.
#[test]
fn the_test_command_with_times_is_one_shell_command() {
    let make = |argument: &str| {
        let output = Command::new("make")
            .args(["--no-print-directory", "-n", "-C", ROOT, "test", argument])
            .output()
            .expect("make is installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for argument in ["TIMES=", "TIMES=1"] {
        let command = make(argument);
        let parsed = Command::new("bash").args(["-n", "-c", &command]).status().expect("bash");
        assert!(parsed.success() && command.contains(" test --workspace"), "{command}");
    }
    assert!(make("TIMES=1").contains("\"run\"]' test"), "{}", make("TIMES=1"));
}

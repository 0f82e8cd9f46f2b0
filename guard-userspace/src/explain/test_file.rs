//! Test files, which say more of a test runner's worker than its name.

use super::process::Process;
use crate::model::select;

/// The file of tests that a process was started for, as its command line names it: the last argument that is named as
/// runners look for them.
pub(super) fn test_file(process: &Process) -> Option<&str> {
    let args = process.image.cmdline.as_deref()?;
    // Whoever edits one runs no tests.
    select::script(process.image.exe.as_deref(), args)?;
    args.iter().skip(1).rev().map(String::as_str).find(|arg| is_test_file(arg))
}

/// `checkout.test.ts`, `checkout.spec.js`, `checkout_test.go`, `test_checkout.py`, `checkout_spec.rb`.
fn is_test_file(arg: &str) -> bool {
    let Some((stem, suffix)) = select::basename(arg).rsplit_once('.') else { return false };
    let script = matches!(suffix, "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx");
    match suffix {
        _ if arg.starts_with('-') || arg.contains(char::is_whitespace) => false,
        _ if script => stem.ends_with(".test") || stem.ends_with(".spec"),
        "py" => stem.starts_with("test_") || stem.ends_with("_test"),
        "rb" => stem.ends_with("_spec") || stem.ends_with("_test"),
        "bats" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_test_file;

    #[test]
    fn test_files_are_known_by_the_names_that_runners_look_for() {
        for arg in ["a.test.ts", "src/a.spec.mjs", "tests/test_a.py", "a_test.py", "spec/a_spec.rb", "a.bats"]
        {
            assert!(is_test_file(arg), "{arg}");
        }
        for arg in [
            "a.ts",
            "test",
            "tests",
            "contest.py",
            "a.test",
            "--config=a.test.ts",
            "echo a.test.ts",
            "x.testing.js",
        ] {
            assert!(!is_test_file(arg), "{arg}");
        }
    }
}

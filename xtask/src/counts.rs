//! Reading what test binaries say.

use std::ops::AddAssign;

/// What became of some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// `test: reason` of each.
    pub(crate) skipped: Vec<String>,
}

impl Counts {
    /// Reads one test binary's output, made with `--show-output`.
    ///
    /// A test skips itself by printing `skipped: REASON`; libtest counts it as passed. One that is marked
    /// `#[ignore]` did not run either. Output without a closing line is a failure: the binary died.
    pub(crate) fn read(output: &str) -> Self {
        let mut counts = Self::default();
        let mut closed = false;
        let mut test = "?";
        for line in output.lines() {
            if let Some(name) = section(line) {
                test = name;
            } else if let Some(reason) = line.strip_prefix("skipped: ") {
                counts.skipped.push(format!("{test}: {reason}"));
            } else if let Some(name) = ignored(line) {
                counts.skipped.push(format!("{name}: marked #[ignore]"));
            } else if let Some(rest) = line.strip_prefix("test result: ") {
                closed = true;
                counts.passed += number_before(rest, " passed");
                counts.failed += number_before(rest, " failed");
            }
        }
        let printed = counts.skipped.iter().filter(|skip| !skip.ends_with("#[ignore]")).count();
        counts.passed = counts.passed.saturating_sub(u64::try_from(printed).unwrap_or(u64::MAX));
        if !closed {
            counts.failed += 1;
        }
        counts
    }

    /// The closing line.
    pub(crate) fn summary(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }
}

/// `---- name stdout ----`
fn section(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// `test name ... ignored`, with or without a reason behind it.
fn ignored(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    result.starts_with("ignored").then_some(name)
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test works ... ok
test old ... ignored, too slow
test live_thing ... ok
test broken ... FAILED

successes:

---- live_thing stdout ----
skipped: watching needs root

failures:

---- broken stdout ----
no

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn a_skip_is_not_a_pass() {
        let counts = Counts::read(OUTPUT);
        assert_eq!((counts.passed, counts.failed), (1, 1));
        assert_eq!(counts.skipped, ["old: marked #[ignore]", "live_thing: watching needs root"]);
        assert_eq!(counts.summary(), "1 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_binary_that_dies_has_failed() {
        let cut = &OUTPUT[..OUTPUT.len() / 2];
        assert_eq!(Counts::read(cut).failed, 1);
        assert_eq!(Counts::read("").failed, 1);
    }

    #[test]
    fn several_results_add_up() {
        let mut counts = Counts::read(OUTPUT);
        counts += Counts::read("test result: ok. 7 passed; 0 failed; 0 ignored;");
        assert_eq!(counts.summary(), "8 passed, 1 failed, 2 skipped");
        // Documentation tests print one result per crate.
        let doc = "test result: ok. 1 passed; 0 failed\ntest result: ok. 2 passed; 0 failed\n";
        assert_eq!(Counts::read(doc).passed, 3);
    }
}

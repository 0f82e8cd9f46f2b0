//! Reading what the zoo says in a guest: lines of Rust's test programs between `== up` and `== ended`.

use std::collections::BTreeMap;

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// The guest ended, or was ended, while it ran.
    Unfinished,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Unfinished => "UNFINISHED",
        }
    }
}

/// What a guest said.
#[derive(Debug, Default)]
pub(super) struct Results {
    pub(super) cases: Vec<(String, Verdict)>,
    /// Why each failed, and what it said while it ran.
    details: BTreeMap<String, String>,
    /// `case: reason` of each that this kernel, or its processor, has not got.
    pub(super) absent: Vec<String>,
    /// `case: reason` of each that should have run.
    pub(super) skipped: Vec<String>,
    /// `case: reason` for each time that one was played again because it had failed.
    pub(super) again: Vec<String>,
    /// How sure killtrace was: `N certain, N likely, N unknown`.
    pub(super) answers: Option<String>,
    /// What the script wrote when the machine was up.
    pub(super) up: Option<String>,
    /// The test program's exit code, if it came to an end.
    pub(super) ended: Option<i32>,
    /// The case that runs.
    running: Option<String>,
    /// The failed case that is explained.
    explained: Option<String>,
    /// What belongs to no case.
    stray: String,
}

impl Results {
    /// Takes the next line; returns a case when it is decided.
    pub(super) fn line(&mut self, line: &str) -> Option<(String, Verdict)> {
        if let Some(up) = line.strip_prefix("== up ") {
            self.up = Some(up.to_owned());
        } else if let Some(code) = line.strip_prefix("== ended ") {
            self.ended = code.trim().parse().ok();
            return self.give_up();
        } else if let Some(absent) = line.strip_prefix("not on this machine: ") {
            self.absent.push(absent.to_owned());
        } else if let Some(answers) = line.strip_prefix("answers: ") {
            self.answers = Some(answers.to_owned());
        } else if let Some((name, rest)) = case(line) {
            let unfinished = self.give_up();
            self.running = Some(name.to_owned());
            return self.outcome(rest).or(unfinished);
        } else if self.running.is_some() {
            return self.outcome(line);
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" ----")) {
            self.explained = Some(name.strip_suffix(" stdout").unwrap_or(name).to_owned());
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.explained = None;
        } else {
            self.note(line);
        }
        None
    }

    /// The rest of a case's line, or a line that it printed itself before that.
    fn outcome(&mut self, text: &str) -> Option<(String, Verdict)> {
        let verdict = match text {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            _ => {
                if let Some(reason) = text.strip_prefix("again: ") {
                    self.again.push(reason.to_owned());
                } else if let Some(reason) = text.strip_prefix("skipped: ").or(text.strip_prefix("ignored")) {
                    self.skipped.push(format!(
                        "{}: {}",
                        self.running.clone().unwrap_or_default(),
                        reason.trim()
                    ));
                    self.running = None;
                } else {
                    self.note(text);
                }
                return None;
            }
        };
        let decided = (self.running.take()?, verdict);
        self.cases.push(decided.clone());
        Some(decided)
    }

    /// A case that said no more.
    pub(super) fn give_up(&mut self) -> Option<(String, Verdict)> {
        let decided = (self.running.take()?, Verdict::Unfinished);
        self.cases.push(decided.clone());
        Some(decided)
    }

    fn note(&mut self, line: &str) {
        let belongs_to = self.running.as_ref().or(self.explained.as_ref());
        let text = match belongs_to {
            Some(case) => self.details.entry(case.clone()).or_default(),
            None => &mut self.stray,
        };
        if !line.is_empty() {
            text.push_str(line);
            text.push('\n');
        }
    }

    pub(super) fn count(&self, wanted: Verdict) -> usize {
        self.cases.iter().filter(|(_, verdict)| *verdict == wanted).count()
    }

    /// What is known of each case that did not pass.
    pub(super) fn explanations(&self) -> impl Iterator<Item = (&str, Verdict, &str)> {
        let bad = self.cases.iter().filter(|(_, verdict)| *verdict != Verdict::Passed);
        bad.map(|(name, verdict)| (name.as_str(), *verdict, self.details(name)))
    }

    /// What is known by now of a case that did not pass, from the next line on.
    pub(super) fn why_not(&self, case: &str, verdict: Verdict) -> String {
        let known = self.details.get(case).filter(|_| verdict != Verdict::Passed);
        known.map_or_else(String::new, |known| format!("\n{}", known.trim_end()))
    }

    /// What was said while a case ran.
    pub(super) fn details(&self, case: &str) -> &str {
        self.details.get(case).map_or("", String::as_str)
    }

    /// What was said outside any case.
    pub(super) fn stray(&self) -> &str {
        &self.stray
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

/// `test NAME     ... REST`
fn case(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.trim();
    (!name.contains(' ')).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Results {
        let mut results = Results::default();
        for line in text.lines() {
            let _ = results.line(line);
        }
        results
    }

    #[test]
    fn cases_are_counted_and_explained() {
        let results = read(
            "\
== up 3.21 s, Linux 6.1.0-56-amd64
not on this machine: memcg_oom: no memory controller
answers: 2 certain, 0 likely, 1 unknown

running 3 tests
test kill_term   ... ok
test kill_chatty ... --- kept: somewhere
ok
test oom         ... FAILED

failures:

---- oom ----
wrong cause: said exited
not oom_kill


failures:
    oom

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.71s

== ended 101
",
        );
        let ok = Verdict::Passed;
        let expected = [("kill_term", ok), ("kill_chatty", ok), ("oom", Verdict::Failed)];
        assert_eq!(results.cases, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
        let explained: Vec<_> = results.explanations().collect();
        assert_eq!(explained, [("oom", Verdict::Failed, "wrong cause: said exited\nnot oom_kill\n")]);
        assert_eq!(results.answers.as_deref(), Some("2 certain, 0 likely, 1 unknown"));
        assert_eq!(results.absent, ["memcg_oom: no memory controller"]);
        assert_eq!((results.ended, results.count(ok)), (Some(101), 2));
        assert_eq!(results.up.as_deref(), Some("3.21 s, Linux 6.1.0-56-amd64"));
    }

    #[test]
    fn a_guest_that_dies_leaves_a_case_unfinished() {
        let mut results = read("== up 3 s\nrunning 2 tests\ntest a ... ok\ntest sysrq ... half a word");
        assert_eq!(results.give_up(), Some(("sysrq".to_owned(), Verdict::Unfinished)));
        assert_eq!(results.ended, None);
        assert_eq!(results.explanations().next(), Some(("sysrq", Verdict::Unfinished, "half a word\n")));
    }

    #[test]
    fn a_case_that_skips_itself_neither_passed_nor_failed() {
        let results = read("test a ... skipped: no tracepoints\nok\ntest b ... ok\n== ended 0");
        assert_eq!(results.skipped, ["a: no tracepoints"]);
        assert_eq!(results.cases, [("b".to_owned(), Verdict::Passed)]);
    }

    #[test]
    fn a_case_may_pass_at_the_second_try() {
        let results = read("test a ... not what it was\nagain: a: it was told wrong\nok\n== ended 0");
        assert_eq!(results.cases, [("a".to_owned(), Verdict::Passed)]);
        assert_eq!(results.again, ["a: it was told wrong"]);
        assert_eq!(results.details("a"), "not what it was\n");
    }
}

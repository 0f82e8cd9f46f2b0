//! Does a report tell the truth?

use std::fmt::Debug;

use killtrace::model::event::WaitStatus;
use killtrace::model::report::{Actor, Confidence, Death, Mechanism, Report};

use super::truth::{Expected, Memory, Survivor, Truth, Who};

/// Everything in `report` that is not as `truth` says, in words; nothing when it is right.
#[must_use]
pub fn check(truth: &Truth, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    for (n, expected) in truth.deaths.iter().enumerate() {
        // A pid can be used twice.
        let same = |death: &&Expected| death.pid == expected.pid;
        let (before, all) =
            (truth.deaths[..n].iter().filter(same).count(), truth.deaths.iter().filter(same).count());
        let deaths: Vec<&Death> = report.deaths.iter().filter(|d| d.victim.pid == expected.pid).collect();
        match deaths.get(before) {
            Some(death) if deaths.len() == all => {
                Comparison { report, expected, death, wrong: &mut wrong }.compare();
            }
            None => wrong.push(format!("the death of {} is not reported", expected.pid)),
            _ => wrong.push(format!("{} deaths of {} are reported", deaths.len(), expected.pid)),
        }
    }
    for pid in &truth.alive {
        if let Some(death) = report.deaths.iter().find(|death| death.victim.pid == *pid) {
            wrong.push(format!("{pid} lives, and is reported dead: {}", death.summary));
        }
    }
    wrong
}

/// What a report answers, a line for each death, for a person to read.
#[must_use]
pub fn answer(case: &str, report: &Report) -> String {
    let summaries = report.deaths.iter().map(|death| format!("{case}: {}\n", death.summary));
    summaries.collect()
}

struct Comparison<'a> {
    report: &'a Report,
    expected: &'a Expected,
    death: &'a Death,
    wrong: &'a mut Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self) {
        let before = self.wrong.len();
        let (expected, death) = (self.expected, self.death);
        let cause = &death.cause;
        self.status();
        let said = (cause.kind, cause.confidence);
        let humbler = expected.without_btf.filter(|_| blind(self.report));
        if said != (expected.kind, expected.confidence) && humbler != Some(said) {
            self.differs("kind and confidence", &said, &(expected.kind, expected.confidence));
        }
        // What a humbler answer leaves open is not asked further.
        if humbler == Some(said) && (said.1 == Confidence::Unknown || said.0 != expected.kind) {
            self.innocent();
            return;
        }
        // Which call it was cannot always be seen.
        let unseen = blind(self.report) && cause.mechanism.is_none();
        if let Some(mechanism) = expected.mechanism.filter(|_| humbler.is_none() && !unseen) {
            self.same("mechanism", &cause.mechanism, &Some(mechanism));
        }
        if unseen && matches!(expected.mechanism, Some(Mechanism::KillGroup | Mechanism::KillAll)) {
            // Then it is told in other words, too.
            self.who("killer", death.killer.as_ref(), &expected.killer);
            self.innocent();
            return;
        }
        if expected.detail.is_some() && !(humbler == Some(said) && cause.detail.is_none()) {
            self.same("detail", &cause.detail, &expected.detail);
        }
        self.same("graceful", &cause.graceful, &expected.graceful);
        if expected.nobody_without_btf && blind(self.report) {
            let named = death.killer.as_ref().or(death.decider());
            self.same("killer", &named.map(|actor| actor.pid), &None);
            self.innocent();
            return;
        }
        self.who("killer", death.killer.as_ref(), &expected.killer);
        if expected.killer_uid.is_some() {
            let uid = death.killer.as_ref().and_then(|killer| killer.uid);
            self.same("uid of the killer", &uid, &expected.killer_uid);
        }
        let actor = death.decider();
        self.who("root cause", actor, &expected.actor);
        if expected.role.is_some() {
            self.same("role", &actor.map(|actor| actor.role), &expected.role);
        }
        if let Some(action) = &expected.action {
            let said = death.root_cause.as_ref().map(|cause| cause.action.as_str());
            if !said.is_some_and(|said| said.contains(action.as_str())) {
                self.differs("what the root cause did", &said, action);
            }
        }
        self.ancestry();
        self.texts();
        self.innocent();
        self.around();
        self.place();
        if self.wrong.len() > before {
            self.wrong.push(format!("  it says: {}", death.summary));
            self.wrong.extend(death.chain.iter().map(|step| format!("    - {}", step.text)));
        }
    }

    fn differs(&mut self, what: &str, said: &dyn Debug, expected: &dyn Debug) {
        self.wrong.push(format!("{what} of {}: {said:?}, but it was {expected:?}", self.expected.pid));
    }

    fn same<T: PartialEq + Debug>(&mut self, what: &str, said: &T, expected: &T) {
        if said != expected {
            self.differs(what, said, expected);
        }
    }

    /// What `waitpid` saw. A report may not know (`null`); it must not say something else.
    fn status(&mut self) {
        let Some(status) = self.expected.status.map(WaitStatus) else { return };
        let exit = &self.death.exit;
        let expected = (status.code(), status.signal());
        let said = (exit.code, exit.signal_number);
        if said != expected && !(blind(self.report) && said == (None, None)) {
            self.differs("exit code and signal", &said, &expected);
        }
        if exit.core_dumped.is_some_and(|dumped| dumped != status.core_dumped()) {
            self.differs("core dump", &exit.core_dumped, &status.core_dumped());
        }
    }

    fn who(&mut self, what: &str, said: Option<&Actor>, expected: &Who) {
        match expected {
            Who::Unsaid => {}
            Who::Nobody => {
                if let Some(actor) = said {
                    self.differs(what, &(actor.pid, &actor.comm), &"nobody");
                }
            }
            Who::Process { pid, comm, cmdline } => {
                let Some(actor) = said else { return self.differs(what, &"nobody", &(pid, comm)) };
                self.same(what, &actor.pid, pid);
                if let Some(comm) = comm {
                    self.same(&format!("{what}'s comm"), &actor.comm, comm);
                }
                // Without BTF the arguments come from /proc, and a killer may be gone first.
                if cmdline.is_some() && !(blind(self.report) && actor.cmdline.is_none()) {
                    self.same(&format!("{what}'s command line"), &actor.cmdline, cmdline);
                }
            }
        }
    }

    fn ancestry(&mut self) {
        let Some(killer) = &self.death.killer else { return };
        let said: Vec<u32> = killer.ancestry.iter().map(|ancestor| ancestor.pid).collect();
        if !said.starts_with(&self.expected.ancestry) {
            self.differs("ancestry of the killer", &said, &self.expected.ancestry);
        }
    }

    fn texts(&mut self) {
        let (expected, death) = (self.expected, self.death);
        let steps: Vec<&str> = death.chain.iter().map(|step| step.text.as_str()).collect();
        let steps = steps.join("\n");
        let mut rest = steps.as_str();
        for wanted in &expected.chain {
            let Some((_, after)) = rest.split_once(wanted.as_str()) else {
                self.wrong.push(format!("the chain does not say, or not in this order: {wanted:?}"));
                break;
            };
            rest = after;
        }
        for wanted in &expected.summary {
            if !death.summary.contains(wanted.as_str()) {
                self.wrong.push(format!("the summary does not say {wanted:?}"));
            }
        }
    }

    fn innocent(&mut self) {
        let death = self.death;
        let actor = death.decider();
        for pid in &self.expected.innocent {
            for (what, blamed) in [("killer", death.killer.as_ref()), ("root cause", actor)] {
                if blamed.is_some_and(|blamed| blamed.pid == *pid) {
                    self.wrong.push(format!("{pid} is innocent, and is called the {what}"));
                }
            }
        }
    }

    fn around(&mut self) {
        let (report, expected, death) = (self.report, self.expected, self.death);
        for signal in &expected.other_signals {
            if !death.other_signals.iter().any(|other| other.signal == *signal) {
                self.wrong.push(format!("{signal} is not among the other signals"));
            }
        }
        let number = |pid: u32| report.deaths.iter().find(|d| d.victim.pid == pid).map(|d| d.id);
        for (pid, because_of) in &expected.also_died {
            match death.aftermath.also_died.iter().find(|other| other.pid == *pid) {
                None => self.wrong.push(format!("{pid} also died, and is not named")),
                Some(other) => self.same(
                    &format!("the death that {pid} died of"),
                    &other.because_of_death,
                    &because_of.and_then(number),
                ),
            }
        }
        if expected.alone && !death.aftermath.also_died.is_empty() {
            self.differs("also died", &death.aftermath.also_died, &"nothing");
        }
        for Survivor { pid, reparented_to, listening } in &expected.survivors {
            let Some(survivor) = death.aftermath.survivors.iter().find(|other| other.pid == *pid) else {
                self.wrong.push(format!("{pid} survived, and is not named"));
                continue;
            };
            if reparented_to.is_some() {
                self.same(&format!("new parent of {pid}"), &survivor.reparented_to, reparented_to);
            }
            let ports: Vec<u16> = survivor.listening.clone();
            self.same(&format!("ports of {pid}"), &ports, listening);
        }
    }

    /// Where it lived, and whose memory had run out.
    fn place(&mut self) {
        let (expected, death) = (self.expected, self.death);
        if expected.pid_in_namespace.is_some() {
            self.same("pid in its namespace", &death.victim.pid_in_namespace, &expected.pid_in_namespace);
        }
        if expected.cgroup.is_some() {
            self.same("cgroup", &death.victim.cgroup, &expected.cgroup);
        }
        let Some(Memory { scope, cgroup, limit_bytes, allocating }) = &expected.oom else { return };
        let Some(oom) = &death.cause.oom else { return self.differs("memory", &"nothing", &scope) };
        self.same("scope", &oom.scope, &Some(*scope));
        self.same("cgroup that ran out", &oom.cgroup, cgroup);
        self.same("limit", &oom.limit_bytes, limit_bytes);
        if allocating.is_some() {
            self.same("allocating task", &oom.allocating_task.as_ref().map(|task| task.pid), allocating);
        }
    }
}

/// The kernel's structures could not be read.
fn blind(report: &Report) -> bool {
    report.collector.degraded.iter().any(|lack| lack.contains("BTF"))
}

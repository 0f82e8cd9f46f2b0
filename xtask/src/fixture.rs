//! `fixture`: a recording from a real kernel becomes a replay case.
//!
//! A recording holds every process of the machine it was made on. Names of that machine are replaced, and what the
//! report does not rest on is left out; the report must stay the same but for its count of events.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use killtrace::model::event::{Event, Fact, ProcessFacts};
use killtrace::model::{Header, Report};
use killtrace::recording;
use killtrace::report::{Options, REPORTS, Style};
use killtrace_tests::zoo::{Truth, answer, check};
use serde_json::Value;

/// Makes `tests/replay/<name>` from `recording`.
pub(crate) fn run(name: &str, recording: &Path) -> anyhow::Result<()> {
    let case = tests().join("replay").join(name);
    fs::create_dir_all(&case)?;
    let (small, kept, all) = shrink(recording, &case.join("events.jsonl"))?;
    for (format, file) in [("json", "expected.json"), ("text", "expected.txt")] {
        let writer = REPORTS.iter().find(|writer| writer.name() == format).context("no such format")?;
        let mut out = Vec::new();
        writer.write(&small, &Options { style: Style::PLAIN }, &mut out)?;
        fs::write(case.join(file), out)?;
    }
    println!("{name}: {kept} of {all} events kept; now write {}", case.join("truth.md").display());
    Ok(())
}

/// Makes `tests/zoo/recordings/<kernel>` from what `KILLTRACE_ZOO_KEEP` kept: a directory per case.
pub(crate) fn zoo(kernel: &str, kept: &Path) -> anyhow::Result<()> {
    let mut cases: Vec<_> = fs::read_dir(kept)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read {}, where KILLTRACE_ZOO_KEEP keeps them", kept.display()))?;
    cases.sort_by_key(fs::DirEntry::file_name);
    let dir = tests().join("zoo/recordings").join(kernel);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut answers = String::new();
    let mut left_out = 0;
    for case in cases {
        let name = case.file_name().to_string_lossy().into_owned();
        let recording = dir.join(format!("{name}.jsonl"));
        let truth: Truth =
            serde_json::from_str(&scrub(&fs::read_to_string(case.path().join("truth.json"))?))?;
        let (report, ..) = shrink(&case.path().join("events.jsonl"), &recording)?;
        let wrong = check(&truth, &report);
        if !wrong.is_empty() {
            println!("{name} is not told right, so it is no fixture:\n{}\n", wrong.join("\n"));
            fs::remove_file(recording)?;
            left_out += 1;
            continue;
        }
        fs::write(dir.join(format!("{name}.truth.json")), serde_json::to_string_pretty(&truth)? + "\n")?;
        answers += &answer(&name, &report);
    }
    fs::write(dir.join("answers.txt"), answers)?;
    println!("{left_out} cases left out; now read {} aloud", dir.join("answers.txt").display());
    Ok(())
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

/// Writes a recording without the names of its machine and without what its report does not rest on. The report,
/// and how many events are left of how many.
fn shrink(recording: &Path, path: &Path) -> anyhow::Result<(Report, usize, usize)> {
    let text = fs::read_to_string(recording)?;
    let mut lines = text.lines();
    let header: Header = serde_json::from_str(lines.next().context("the recording is empty")?)?;
    let mut events: Vec<Event> =
        lines.map(serde_json::from_str).collect::<Result<_, _>>().context("an event of the recording")?;
    let host = host_processes(&events);
    events.iter_mut().for_each(|event| rename(event, &host));
    let header = anonymous(header);

    write(path, &header, &events)?;
    let whole = recording::replay(path)?;
    let cast = cast(&whole, &events);
    let all = events.len();
    let needed: Vec<Event> = events.iter().filter(|event| concerns(event, &cast)).cloned().collect();
    write(path, &header, &needed)?;
    let small = recording::replay(path)?;
    if same(&whole, &small)? {
        return Ok((small, needed.len(), all));
    }
    // It rests on more than on those that it names.
    write(path, &header, &events)?;
    Ok((whole, all, all))
}

fn write(path: &Path, header: &Header, events: &[Event]) -> anyhow::Result<()> {
    let mut out = scrub(&serde_json::to_string(header)?);
    out.push('\n');
    for event in events {
        out.push_str(&scrub(&serde_json::to_string(event)?));
        out.push('\n');
    }
    Ok(fs::write(path, out)?)
}

/// Processes that were there before and are neither tools of the system nor this project's: whatever the machine
/// it was recorded on happens to run.
fn host_processes(events: &[Event]) -> BTreeSet<u32> {
    let checkout = checkout();
    let ours = |exe: &str| {
        exe.starts_with("/usr/")
            || exe.starts_with("/bin/")
            || exe.starts_with(&checkout)
            || exe.contains("/kz-")
    };
    let facts = events.iter().filter_map(|event| match &event.fact {
        Fact::Process(facts) if facts.seeded => Some(facts),
        _ => None,
    });
    let runs = |facts: &ProcessFacts| facts.exe.clone().or_else(|| facts.cmdline.as_ref()?.first().cloned());
    facts.filter(|facts| runs(facts).is_some_and(|exe| !ours(&exe))).map(|facts| facts.tgid).collect()
}

/// Gives such processes a name of no machine.
fn rename(event: &mut Event, host: &BTreeSet<u32>) {
    const NAME: &str = "host";
    if let Some(current) = &mut event.current
        && host.contains(&current.tgid.unwrap_or(current.tid))
    {
        current.comm = current.comm.map(|_| NAME.into());
    }
    match &mut event.fact {
        Fact::Process(facts) if host.contains(&facts.tgid) => {
            facts.comm = facts.comm.map(|_| NAME.into());
            facts.exe = facts.exe.as_ref().map(|_| NAME.to_owned());
            facts.cmdline = facts.cmdline.as_ref().map(|_| vec![NAME.to_owned()]);
            facts.cwd = facts.cwd.as_ref().map(|_| "/".to_owned());
        }
        Fact::Rename { tid, comm } if host.contains(tid) => *comm = NAME.into(),
        _ => {}
    }
    // Whoever else was in a cgroup that is not the test's own is nobody's business.
    if let Fact::CgroupMemory(memory) = &mut event.fact
        && !memory.path.starts_with("/killtrace")
    {
        memory.largest.clear();
    }
    let cgroup = match &mut event.fact {
        Fact::Process(facts) => facts.cgroups.as_mut().and_then(|cgroups| cgroups.memory.as_mut()),
        Fact::CgroupMemory(memory) => Some(&mut memory.path),
        _ => None,
    };
    if let Some(cgroup) = cgroup.filter(|cgroup| !cgroup.starts_with("/killtrace")) {
        "/".clone_into(cgroup);
    }
}

/// Every pid that the report mentions, and what they descend from.
fn cast(report: &Report, events: &[Event]) -> BTreeSet<u32> {
    fn pids(value: &Value, found: &mut BTreeSet<u32>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let pid = value.as_u64().and_then(|pid| u32::try_from(pid).ok());
                    match pid {
                        Some(pid) if ["pid", "ppid", "reparented_to"].contains(&key.as_str()) => {
                            found.insert(pid);
                        }
                        _ => pids(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| pids(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::from([1, 2]);
    if let Ok(report) = serde_json::to_value(report) {
        pids(&report, &mut found);
    }
    // Whoever they were born of, however far back.
    loop {
        let before = found.len();
        for event in events {
            match &event.fact {
                Fact::Fork(fork) if found.contains(&fork.child_tgid) => {
                    found.extend(event.current.and_then(|current| current.tgid));
                    found.extend(fork.ppid);
                }
                Fact::Process(facts) if found.contains(&facts.tgid) => found.extend(facts.ppid),
                _ => {}
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

fn concerns(event: &Event, cast: &BTreeSet<u32>) -> bool {
    let by_cast = event.current.is_some_and(|current| cast.contains(&current.tgid.unwrap_or(current.tid)));
    match &event.fact {
        Fact::Fork(fork) => cast.contains(&fork.child_tgid),
        Fact::Signal(signal) => cast.contains(&signal.target_tgid.unwrap_or(signal.target_tid)),
        Fact::OomVictim(victim) => cast.contains(&victim.tid),
        Fact::Process(facts) => cast.contains(&facts.tgid),
        Fact::ProcessGone { tgid } => cast.contains(tgid),
        Fact::Rename { tid, .. } | Fact::CgroupAttach { tid, .. } => cast.contains(tid),
        Fact::Taskstats(stats) => cast.contains(&stats.tgid.unwrap_or(stats.tid)),
        Fact::Exec(_) | Fact::Exit(_) | Fact::Deliver(_) | Fact::Listen { .. } => by_cast,
        Fact::KernelLog { text } => cast.iter().any(|pid| text.contains(&pid.to_string())),
        _ => true,
    }
}

fn anonymous(mut header: Header) -> Header {
    header.host.hostname = "fixture".to_owned();
    header.host.boot_id = None;
    header
}

/// Replaces where this checkout lies.
fn scrub(line: &str) -> String {
    line.replace(&checkout(), "/src/killtrace")
}

fn checkout() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).display().to_string()
}

/// The same deaths, for the same reasons.
fn same(one: &Report, other: &Report) -> anyhow::Result<bool> {
    let tell = |report: &Report| -> anyhow::Result<String> {
        let mut report = report.clone();
        report.collector.events = 0;
        Ok(serde_json::to_string(&report)?)
    };
    Ok(tell(one)? == tell(other)?)
}

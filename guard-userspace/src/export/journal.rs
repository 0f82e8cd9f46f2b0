//! Deaths in systemd's journal, beside what the unit itself had logged.
//!
//! The fields are documented in docs/exports.md. `OBJECT_SYSTEMD_UNIT` has `journalctl --unit` show the answer among
//! the lines of the unit that died (systemd, src/shared/logs-show.c, `add_matches_for_unit`; it asks for `_UID=0`).

use std::fmt;
use std::path::Path;

use log::kv::{Key, Source, Value, VisitSource};
use log::{Level, RecordBuilder};
use systemd_journal_logger::JournalLog;

use super::{Refused, Sink, killer_role, word};
use crate::model::record::{DeathRecord, Gap};
use crate::model::report::UnitScope;
use crate::report::escape;
use crate::report::why::gap_text;
use crate::store::tail::Record;

/// What journalctl finds deaths by: `journalctl MESSAGE_ID=...`.
const DEATH: &str = "7b0c5f0e3a8d4c55a1d9f1f4c2c6e3d7";
/// The same for times that were not watched.
const GAP: &str = "f2a96b3dbb9e4cf0b6a4a2e5d8a1c094";

/// journald's socket for structured messages (systemd, `sd_journal_sendv`).
const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal of this machine.
pub struct Journal {
    log: JournalLog,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    /// Connects to journald; `None` where there is none.
    #[must_use]
    pub fn connect() -> Option<Self> {
        let log = Path::new(SOCKET).exists().then(JournalLog::empty)?.ok()?;
        Some(Self { log: log.with_syslog_identifier("killtrace".to_owned()) })
    }

    fn send(&self, level: Level, message: &str, fields: &Fields) -> Result<(), Refused> {
        let message = format_args!("{message}");
        let mut record = RecordBuilder::new();
        record.level(level).target("killtrace").args(message).key_values(fields);
        self.log.journal_send(&record.build()).map_err(Refused::new)
    }
}

impl Sink for Journal {
    fn name(&self) -> String {
        "the journal".to_owned()
    }

    fn bookmark(&self) -> Option<&'static str> {
        Some("journal.bookmark")
    }

    fn take(&mut self, records: &[Record]) -> Result<(), Refused> {
        for record in records {
            match record {
                Record::Death(record) => {
                    self.send(Level::Warn, &message(record), &of_death(record))?;
                }
                Record::Gap(gap) => self.send(Level::Info, &gap_message(gap), &of_gap(gap))?,
            }
        }
        Ok(())
    }
}

/// Journal fields, in order; what is not known is left out.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| (name, value.to_string())));
    }
}

impl Source for Fields {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), log::kv::Error> {
        let mut pairs = self.0.iter();
        pairs.try_for_each(|(name, value)| {
            visitor.visit_pair(Key::from_str(name), Value::from(value.as_str()))
        })
    }
}

/// What people read: on terminals too, where journald forwards it. The fields have all as it is.
pub(super) fn message(record: &DeathRecord) -> String {
    escape::text(&record.death.summary).into_owned()
}

fn of_death(record: &DeathRecord) -> Fields {
    let death = &record.death;
    let victim = &death.victim;
    let mut fields = Fields::default();
    fields.put("MESSAGE_ID", Some(DEATH));
    let unit = match victim.unit_scope {
        Some(UnitScope::User) => "OBJECT_SYSTEMD_USER_UNIT",
        _ => "OBJECT_SYSTEMD_UNIT",
    };
    fields.put(unit, victim.unit.as_ref());
    fields.put("KILLTRACE_KIND", Some(word(death.cause.kind)));
    fields.put("KILLTRACE_CONFIDENCE", Some(word(death.cause.confidence)));
    fields.put("KILLTRACE_DIED_AT", Some(death.died_at));
    fields.put("KILLTRACE_PID", Some(victim.pid));
    fields.put("KILLTRACE_NAME", Some(&victim.name));
    fields.put("KILLTRACE_COMM", Some(&victim.comm));
    fields.put("KILLTRACE_EXE", victim.exe.as_ref());
    fields.put("KILLTRACE_CMDLINE", victim.cmdline.as_ref().map(|args| args.join(" ")));
    fields.put("KILLTRACE_UID", victim.uid);
    fields.put("KILLTRACE_UNIT", victim.unit.as_ref());
    fields.put("KILLTRACE_CGROUP", victim.cgroup.as_ref());
    fields.put("KILLTRACE_CONTAINER", victim.container.as_ref());
    fields.put("KILLTRACE_SIGNAL", death.exit.signal.as_ref());
    fields.put("KILLTRACE_EXIT_CODE", death.exit.code);
    fields.put("KILLTRACE_KILLER_ROLE", Some(killer_role(death)));
    fields.put("KILLTRACE_KILLER_PID", death.killer.as_ref().map(|killer| killer.pid));
    fields.put("KILLTRACE_KILLER_NAME", death.killer.as_ref().map(|killer| &killer.name));
    fields.put("KILLTRACE_ROOT_CAUSE_PID", death.decider().map(|decider| decider.pid));
    fields.put("KILLTRACE_ROOT_CAUSE_NAME", death.decider().map(|decider| &decider.name));
    fields.put("KILLTRACE_ADVICE", (!death.advice.is_empty()).then(|| death.advice.join("\n")));
    fields
}

fn of_gap(gap: &Gap) -> Fields {
    let mut fields = Fields::default();
    fields.put("MESSAGE_ID", Some(GAP));
    fields.put("KILLTRACE_GAP", Some(word(gap.why)));
    fields.put("KILLTRACE_GAP_FROM", gap.from);
    fields.put("KILLTRACE_GAP_UNTIL", Some(gap.until));
    fields.put("KILLTRACE_GAP_COUNT", gap.count);
    fields
}

/// What stands in a log about a time that was not watched.
pub(super) fn gap_message(gap: &Gap) -> String {
    format!("deaths may have been missed {}", gap_text(gap))
}

//! Ctrl-C or Ctrl-\ typed at its terminal (drivers/tty/n_tty.c, `n_tty_receive_signal_char` -> `__isig`): the
//! line discipline runs in a kernel worker. TIOCSTI and TIOCSIG do the same from the caller's own ioctl.

use super::{Case, Cause, Finding};
use crate::model::event::Call;
use crate::model::report::{Kind, Mechanism};
use crate::model::signal::{Signo, code};

pub(super) struct TtyKeyboard;

impl Cause for TtyKeyboard {
    fn kind(&self) -> Kind {
        Kind::TtyKeyboard
    }

    fn examine(&self, case: &Case<'_>) -> Option<Finding> {
        let blow = case.blow()?;
        let key = matches!(blow.run.signo, Signo::INT | Signo::QUIT | Signo::TSTP);
        if !key || blow.run.code != code::SI_KERNEL || !blow.run.group {
            return None;
        }
        let finding = Finding::kernel(Kind::TtyKeyboard).mechanism(Mechanism::None);
        if blow.in_call(&[Call::Ioctl]) == Some(true) && !blow.kernel_thread {
            let killer = blow.current.map(|process| process.id);
            return Some(Finding { killer, ..finding.mechanism(Mechanism::TtyIoctl) });
        }
        // A key is taken by a worker of the kernel, so a process that is `current` asked for it by ioctl.
        let asked = blow.in_kill().is_none().then(|| blow.other()).flatten();
        Some(match asked {
            Some(killer) => {
                Finding { killer: Some(killer), ..finding.mechanism(Mechanism::TtyIoctl) }.likely()
            }
            None => finding,
        })
    }
}

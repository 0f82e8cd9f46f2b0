//! A real Vite, started through `npm run dev` inside a sandbox.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::needs::skip;
use crate::procs::{eventually, listener, patient};
use crate::sandbox::Sandbox;

/// A Vite that answers on its port. The sandbox ends it.
#[derive(Debug)]
pub struct Vite {
    /// Its pid outside of the sandbox.
    pub pid: u32,
    pub port: u16,
    starter: Option<Child>,
}

impl Vite {
    /// Where its package.json is, or `None`, said with [`skip`], when its packages are not installed.
    /// `KILLTRACE_VITE_APP` names the place where the sources are not at hand, as in a test machine.
    #[must_use]
    pub fn app() -> Option<PathBuf> {
        let of_the_sources = || Path::new(env!("CARGO_MANIFEST_DIR")).join("vite-app");
        let app = std::env::var_os("KILLTRACE_VITE_APP").map_or_else(of_the_sources, PathBuf::from);
        if !app.join("node_modules/.bin/vite").exists() {
            skip("Vite is not installed; `cargo xtask setup` does it");
            return None;
        }
        Some(app)
    }

    /// `npm run dev`, as a person types it.
    #[must_use]
    pub fn command(port: u16) -> Vec<String> {
        let port = port.to_string();
        ["npm", "run", "dev", "--", "--port", &port, "--strictPort", "--host", "127.0.0.1"]
            .map(str::to_owned)
            .into()
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not in time.
    #[must_use]
    pub fn start(sandbox: &Sandbox, app: &Path, port: u16) -> Self {
        let args = Self::command(port);
        let mut command = sandbox.command(app, &args[0]);
        command.args(&args[1..]);
        Self::start_with(sandbox, command, port)
    }

    /// Like [`Vite::start`], by a command that ends up running it.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    pub fn start_with(sandbox: &Sandbox, mut command: Command, port: u16) -> Self {
        let log = File::create(Self::log_path(sandbox)).expect("cannot write to the temporary directory");
        let both = log.try_clone().expect("out of file descriptors");
        let starter = command.stdout(log).stderr(Stdio::from(both)).spawn().expect("cannot run nsenter");
        let pid = Self::wait(port, || Self::log(sandbox));
        Self { pid, port, starter: Some(starter) }
    }

    /// Waits until somebody listens on `port`, and says who.
    ///
    /// # Panics
    /// When nobody does in time; `log` tells why.
    #[must_use]
    pub fn wait(port: u16, log: impl Fn() -> String) -> u32 {
        let deadline = std::time::Instant::now() + patient(30);
        loop {
            if let Some(pid) = listener(port) {
                return pid;
            }
            assert!(std::time::Instant::now() < deadline, "Vite does not listen on {port}:\n{}", log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Asks for a page, as a browser does, and does not wait for it.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn visit(port: u16, page: &str) {
        let mut browser = TcpStream::connect(("127.0.0.1", port)).expect("Vite listens");
        write!(browser, "GET {page} HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("Vite reads");
    }

    /// What it and npm have printed, when it was started with [`Vite::start`].
    #[must_use]
    pub fn log(sandbox: &Sandbox) -> String {
        fs::read_to_string(Self::log_path(sandbox)).unwrap_or_default()
    }

    fn log_path(sandbox: &Sandbox) -> PathBuf {
        sandbox.dir().join("vite.log")
    }

    /// The status that `npm run dev` ended with, as a shell prints it.
    ///
    /// # Panics
    /// When it lives on.
    pub fn npm_status(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let mut starter = self.starter.take().expect("asked once");
        let status = eventually(60, "npm to end", || starter.try_wait().expect("a child can be waited for"));
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }
}

impl Drop for Vite {
    fn drop(&mut self) {
        if let Some(starter) = &mut self.starter {
            let _ = starter.kill();
            let _ = starter.wait();
        }
    }
}

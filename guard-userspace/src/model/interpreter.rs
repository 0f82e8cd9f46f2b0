//! Which script an interpreter runs, from its arguments.
//!
//! `node --max-old-space-size=4096 -r dotenv/config /app/node_modules/.bin/vite` runs vite: options are skipped
//! with the values they take, as each interpreter's manual has them.

mod options;

use options::{Dialect, Options};

/// An interpreter, by what its command line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    Node,
    Bun,
    Deno,
    Python,
    Ruby,
    Perl,
    Php,
    Lua,
    Shell,
    Java,
}

impl Interpreter {
    /// By the basename of an executable; `python3.11`, `php8.2` and `node-20` too.
    pub(super) fn from_basename(basename: &str) -> Option<Self> {
        let stem = basename.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        Some(match stem {
            "node" | "nodejs" | "iojs" => Self::Node,
            "bun" => Self::Bun,
            "deno" => Self::Deno,
            "python" | "pypy" => Self::Python,
            "ruby" | "jruby" | "truffleruby" => Self::Ruby,
            "perl" => Self::Perl,
            "php" => Self::Php,
            "lua" | "luajit" => Self::Lua,
            "sh" | "bash" | "rbash" | "dash" | "zsh" | "ash" | "ksh" | "mksh" | "yash" | "fish" => {
                Self::Shell
            }
            "java" => Self::Java,
            _ => return None,
        })
    }

    /// Its scripts are JavaScript or TypeScript, whose suffix people leave out.
    pub(super) fn is_javascript(self) -> bool {
        matches!(self, Self::Node | Self::Bun | Self::Deno)
    }

    /// The script among the arguments after the interpreter's own name, as it is written there; a module for
    /// `python -m`, a jar or class for java. `None` when the code is in the arguments, comes from standard
    /// input, or is the interpreter's own (`bun install`).
    pub(super) fn script<'a>(self, args: &[&'a str]) -> Option<&'a str> {
        self.named_script(args).filter(|script| !is_descriptor(script))
    }

    fn named_script<'a>(self, args: &[&'a str]) -> Option<&'a str> {
        let mut args = Args { rest: args, options: self.options() };
        let first = args.positional()?;
        match self {
            Self::Deno => match first {
                "run" | "serve" | "test" | "bench" | "x" => args.positional(),
                "task" | "eval" | "repl" | "install" | "add" | "cache" | "check" | "compile" | "fmt"
                | "lint" | "info" | "init" | "jupyter" | "lsp" | "upgrade" => None,
                script => Some(script),
            },
            Self::Bun => match first {
                // `bun run dev` names an entry of package.json, `bun run dev.ts` a file.
                "run" => args.positional().filter(|script| script.contains(['/', '.'])),
                "x" | "exec" => args.positional(),
                "install" | "i" | "add" | "remove" | "rm" | "update" | "link" | "unlink" | "pm" | "build"
                | "init" | "create" | "upgrade" | "test" | "repl" | "outdated" | "publish" | "patch"
                | "audit" => None,
                script => Some(script),
            },
            Self::Node if first == "inspect" => args.positional(),
            _ => Some(first),
        }
    }

    fn options(self) -> &'static Options {
        match self {
            Self::Node => &options::NODE,
            Self::Bun => &options::BUN,
            Self::Deno => &options::DENO,
            Self::Python => &options::PYTHON,
            Self::Ruby => &options::RUBY,
            Self::Perl => &options::PERL,
            Self::Php => &options::PHP,
            Self::Lua => &options::LUA,
            Self::Shell => &options::SHELL,
            Self::Java => &options::JAVA,
        }
    }
}

/// `bash /dev/fd/3` and `bash <(...)` run what a descriptor holds; its number is no name.
fn is_descriptor(script: &str) -> bool {
    ["/dev/fd/", "/proc/self/fd/", "/dev/stdin"].iter().any(|place| script.starts_with(place))
}

struct Args<'a, 'b> {
    rest: &'b [&'a str],
    options: &'static Options,
}

/// What an option means for the search.
enum Meaning<'a> {
    Skip,
    Runs(&'a str),
    NoScript,
}

impl<'a> Args<'a, '_> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// The next argument that is no option, or what an option says is run.
    fn positional(&mut self) -> Option<&'a str> {
        loop {
            let arg = self.next()?;
            let found = match arg {
                "" => return None,
                "--" => return self.next(),
                // Standard input; for a shell, the end of options.
                "-" if self.options.dialect == Dialect::Shell => return self.next(),
                "-" => return None,
                _ if arg.starts_with("--")
                    || arg.starts_with('-') && self.options.dialect == Dialect::Words =>
                {
                    self.long(arg)
                }
                _ if arg.starts_with('-') => self.cluster(&arg[1..]),
                _ if arg.starts_with('+') && self.options.dialect == Dialect::Shell => {
                    self.cluster(&arg[1..])
                }
                positional => return Some(positional),
            };
            match found {
                Meaning::Skip => {}
                Meaning::Runs(script) => return Some(script),
                Meaning::NoScript => return None,
            }
        }
    }

    fn long(&mut self, arg: &'a str) -> Meaning<'a> {
        let (name, value) = arg.split_once('=').map_or((arg, None), |(name, value)| (name, Some(value)));
        if self.options.long_code.contains(&name) {
            return Meaning::NoScript;
        }
        if self.options.long_script.contains(&name) {
            return value.or_else(|| self.next()).map_or(Meaning::NoScript, Meaning::Runs);
        }
        if value.is_none() && self.options.long_valued.contains(&name) {
            self.next();
        }
        Meaning::Skip
    }

    /// Short options after one dash, `-uB`.
    fn cluster(&mut self, letters: &'a str) -> Meaning<'a> {
        for (at, letter) in letters.char_indices() {
            let attached = Some(&letters[at + letter.len_utf8()..]).filter(|rest| !rest.is_empty());
            if self.options.code.contains(letter) {
                return Meaning::NoScript;
            }
            if self.options.script.contains(letter) {
                return attached.or_else(|| self.next()).map_or(Meaning::NoScript, Meaning::Runs);
            }
            if self.options.attached.contains(letter) {
                return Meaning::Skip;
            }
            if self.options.valued.contains(letter) {
                if self.options.dialect == Dialect::Shell {
                    // The letters after it are further options, of which `c` matters.
                    self.next();
                } else {
                    if attached.is_none() {
                        self.next();
                    }
                    return Meaning::Skip;
                }
            }
        }
        Meaning::Skip
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_no_script() {
        assert_eq!(Interpreter::Shell.script(&["/dev/fd/63"]), None);
        assert_eq!(Interpreter::Shell.script(&["/dev/disk.sh"]), Some("/dev/disk.sh"));
    }

    fn script(line: &str) -> Option<&str> {
        let args: Vec<&str> = line.split(' ').collect();
        Interpreter::from_basename(args[0]).unwrap().script(&args[1..])
    }

    #[test]
    fn versions_do_not_hide_an_interpreter() {
        for (name, interpreter) in [
            ("python3.11", Interpreter::Python),
            ("node-20", Interpreter::Node),
            ("nodejs", Interpreter::Node),
            ("php8.2", Interpreter::Php),
            ("perl5.36.0", Interpreter::Perl),
            ("pypy3", Interpreter::Python),
            ("zsh", Interpreter::Shell),
        ] {
            assert_eq!(Interpreter::from_basename(name), Some(interpreter), "{name}");
        }
        for name in ["vite", "php-fpm8.2", "nodemon", "sshd", "bashtop", "", "3.11"] {
            assert_eq!(Interpreter::from_basename(name), None, "{name}");
        }
    }

    #[test]
    fn options_are_skipped_with_their_values() {
        for (line, expected) in [
            ("node /app/node_modules/.bin/vite", "/app/node_modules/.bin/vite"),
            ("node --max-old-space-size=4096 -r dotenv/config --require x a.js b.js", "a.js"),
            ("node --import ./hook.mjs --loader=ts-node/esm a.mjs --port 3", "a.mjs"),
            ("node --inspect --enable-source-maps a.js", "a.js"),
            ("node inspect a.js", "a.js"),
            ("node -- -odd.js", "-odd.js"),
            ("bun run src/index.ts", "src/index.ts"),
            ("bun --bun x vite", "vite"),
            ("bun vite", "vite"),
            ("deno run -A --config deno.json npm:vite", "npm:vite"),
            ("deno --allow-net main.ts", "main.ts"),
            ("python3.11 -m vite --port 1", "vite"),
            ("python -um http.server", "http.server"),
            ("python -uB -W ignore -Xdev app.py", "app.py"),
            ("ruby -I lib -rbundler/setup bin/rails s", "bin/rails"),
            ("perl -w -I lib -Mstrict ack x", "ack"),
            ("php -d memory_limit=1G artisan serve", "artisan"),
            ("php -f index.php", "index.php"),
            ("lua5.4 -l socket main.lua", "main.lua"),
            ("bash ./keepalive-dev.sh", "./keepalive-dev.sh"),
            ("bash -eo pipefail run.sh", "run.sh"),
            ("bash -o pipefail +x --norc run.sh", "run.sh"),
            ("bash --rcfile x run.sh", "run.sh"),
            ("zsh - run.sh", "run.sh"),
            ("java -Xmx1g -cp a:b --add-opens x/y=z org.app.Main a", "org.app.Main"),
            ("java -Dx=y -jar app.jar --port 3", "app.jar"),
        ] {
            assert_eq!(script(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn code_in_the_arguments_is_no_script() {
        for line in [
            "node",
            "node -e 1 x",
            "node -pe 1",
            "node --eval=1 x",
            "node -",
            "node -r",
            "node --run dev",
            "bun install",
            "bun run dev",
            "deno task dev",
            "python -c x y",
            "python -uc x y",
            "python -m",
            "ruby -ne x y",
            "perl -lane x y",
            "php -r x",
            "sh -c vite",
            "bash -lc vite",
            "bash -eoc pipefail vite",
            "bash -s x",
            "bash --login -i",
        ] {
            assert_eq!(script(line), None, "{line}");
        }
    }
}

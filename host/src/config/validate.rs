//! What a type cannot say: references between entries, ranges, and who may listen where.
//!
//! A check that needs a name to exist asks the document, not the typed tree: an entry that is there but wrong was already
//! reported, and whatever refers to it is not at fault.
//!
//! What another program may be about to write is a warning (a component: on a reload the version before it goes on serving);
//! what else must be there is an error (certificates, the prompts' folder, secrets).
//!
//! **Invariant:** no check shows a secret.

use std::net::{IpAddr, SocketAddr};

use super::locate::Document;
use super::report::{Fault, Severity};
use super::unit::Wrong;
use super::{Config, Duration, suggest};

mod embedders;
mod entries;
mod idle;
mod policy;
mod recording;
mod upstream;

pub(crate) use idle::INTERPRETER;

/// The system allows 107 bytes; the name that a socket is made under has a few more.
const MAX_SOCKET_PATH: usize = 100;

/// Collects faults, each placed at a path of the document.
struct Check<'a> {
    config: &'a Config,
    document: &'a Document,
    faults: &'a mut Vec<Fault>,
}

/// Checks what the types do not, and adds what is wrong to `faults`.
pub(super) fn validate(config: &Config, document: &Document, faults: &mut Vec<Fault>) {
    let mut check = Check { config, document, faults };
    check.who_may_listen();
    check.listen();
    check.admin();
    check.log();
    check.providers();
    check.models();
    check.plugins();
    check.prompts_and_examples();
    check.embedders();
    check.cache();
    check.degrade();
    check.recording();
    check.keys();
    check.idle();
}

impl Check<'_> {
    /// Something is wrong with the value at `path`.
    fn error(&mut self, path: &[&str], reason: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Severity::Error, path, false, Wrong::new(reason, remedy));
    }

    /// Something is wrong with the name at the end of `path`.
    fn name_error(&mut self, path: &[&str], reason: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Severity::Error, path, true, Wrong::new(reason, remedy));
    }

    fn warning(&mut self, path: &[&str], reason: impl Into<String>, remedy: impl Into<String>) {
        self.fault(Severity::Warning, path, false, Wrong::new(reason, remedy));
    }

    fn fault(&mut self, severity: Severity, path: &[&str], at_key: bool, wrong: Wrong) {
        let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
        // A value that is absent (a default, or a section that should be there) is shown where it would be.
        let span = self.document.nearest(&path).map_or(0..0, |node| if at_key { node.key.clone() } else { node.value.clone() });
        self.faults.push(Fault { severity, path, span, reason: wrong.reason, remedy: wrong.remedy });
    }

    /// `name` must be an entry of `section`; `path` is where it is referred to. Whether it is.
    fn exists(&mut self, section: &str, name: &str, path: &[&str]) -> bool {
        let found = self.document.has(&[section, name]);
        if !found {
            let known = self.document.names(&[section]);
            let remedy = format!("add [{section}.{}], or {}", super::locate::bare_or_quoted(name), suggest::choice(name, &known));
            self.error(path, format!("there is no {name:?} in [{section}]"), remedy);
        }
        found
    }

    fn not_zero(&mut self, path: &[&str], zero: bool, example: &str) {
        if zero {
            self.error(path, "this may not be 0", format!("write a value above 0, such as {example}"));
        }
    }

    /// Names go into logs, headers and metrics.
    fn printable(&mut self, path: &[&str], name: &str) {
        if name.trim().is_empty() || name.trim() != name || name.len() > 200 || name.chars().any(char::is_control) {
            self.name_error(
                path,
                "a name has at least one and at most 200 bytes, no control characters, and no space at its ends",
                "choose another name",
            );
        }
    }

    fn who_may_listen(&mut self) {
        let address = self.config.listen.address;
        // Asked of the document: keys that are there and wrong are a different mistake than none.
        let keys = !self.document.names(&["keys"]).is_empty();
        let none = self.document.has(&["auth"]);
        if keys && self.config.auth.is_some() {
            self.error(&["auth"], "`auth = \"none\"` stands beside [keys]", "remove `auth`, or all of [keys]");
        }
        if !keys && !none && !is_loopback(address) {
            self.error(
                &["listen", "address"],
                format!("{address} is reachable from other machines, and no keys are configured"),
                "run `pointsman key new NAME` and add the entry that it prints, or listen on 127.0.0.1, or write `auth = \"none\"` as the file's first line",
            );
        }
    }

    fn listen(&mut self) {
        let listen = &self.config.listen;
        let times: [(&str, Duration); 6] = [
            ("first_request", listen.first_request),
            ("header_read", listen.header_read),
            ("body_idle", listen.body_idle),
            ("body_total", listen.body_total),
            ("write_idle", listen.write_idle),
            ("drain", listen.drain),
        ];
        for (name, time) in times {
            self.not_zero(&["listen", name], time.is_zero(), "\"5s\"");
        }
        self.not_zero(&["listen", "memory"], listen.memory.is_some_and(|memory| memory.bytes() == 0), "\"2GiB\"");
        self.not_zero(&["listen", "max_body"], listen.max_body.bytes() == 0, "\"32MiB\"");
        for (name, count) in [
            ("threads", listen.threads.unwrap_or(1)),
            ("max_headers", listen.max_headers),
            ("max_connections", listen.max_connections),
            ("max_connections_per_address", listen.max_connections_per_address),
        ] {
            self.not_zero(&["listen", name], count == 0, "64");
        }
        if let Some(path) = &listen.handover
            && (path.as_os_str().len() > MAX_SOCKET_PATH || path.file_name().is_none())
        {
            self.error(
                &["listen", "handover"],
                format!(
                    "{} is no path for a Unix socket: at most {MAX_SOCKET_PATH} bytes, and a file's name at its end",
                    path.display()
                ),
                "write a shorter one, such as \"/run/pointsman/handover.sock\"",
            );
        }
        // Whoever starts it may make the folder: systemd does.
        if let Some(folder) = listen.handover.as_deref().and_then(std::path::Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.exists()
        {
            self.warning(
                &["listen", "handover"],
                format!("the folder {} does not exist", folder.display()),
                "make it before pointsman starts, its user's own and with mode 0700 (systemd: `RuntimeDirectory`)",
            );
        }
        if let Some(tls) = &listen.tls {
            let files = [("certificate", Some(&tls.certificate)), ("key", Some(&tls.key)), ("client_ca", tls.client_ca.as_ref())];
            for (name, file) in files {
                if let Some(file) = file.filter(|file| !file.is_file()) {
                    self.error(
                        &["listen", "tls", name],
                        format!("the file {} does not exist", file.display()),
                        "put it there, or name another",
                    );
                }
            }
        }
    }

    fn admin(&mut self) {
        let Some(admin) = &self.config.admin else { return };
        if admin.key.is_none() && !self.document.has(&["admin", "key"]) && !is_loopback(admin.address) {
            self.error(
                &["admin", "address"],
                format!("{} is reachable from other machines, and the admin API has no key", admin.address),
                "listen on 127.0.0.1, or add `key = \"env:NAME\"` to [admin]",
            );
        }
        if overlap(admin.address, self.config.listen.address) {
            self.error(&["admin", "address"], "[listen] has the same address", "choose another port");
        }
        if let Some(Err(wrong)) = admin.key.as_ref().map(|key| key.resolve().map(drop)) {
            self.error(&["admin", "key"], wrong.reason, wrong.remedy);
        }
    }

    fn log(&mut self) {
        let known = ["off", "error", "warn", "info", "debug", "trace"];
        for directive in self.config.log.level.split(',') {
            let level = directive.rsplit('=').next().unwrap_or_default().trim();
            if !known.contains(&level.to_ascii_lowercase().as_str()) {
                self.error(&["log", "level"], format!("{level:?} is not a log level"), suggest::remedy(level, &known));
            }
        }
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Whether both cannot be listened on at once.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_ip(a.ip().to_canonical(), b.ip().to_canonical())
}

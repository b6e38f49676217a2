//! `[recording]`: ranges, and rules that can be read.

use super::{Check, suggest};

impl Check<'_> {
    pub(super) fn recording(&mut self) {
        let Some(recording) = &self.config.recording else { return };
        if !(recording.share > 0.0 && recording.share <= 1.0) {
            self.error(
                &["recording", "share"],
                format!("{} is not a share of the exchanges", recording.share),
                "write a number above 0 and at most 1, such as 0.01",
            );
        }
        let sizes = [
            ("max_exchange", recording.max_exchange, "\"256KiB\""),
            ("max_file", recording.max_file, "\"64MiB\""),
            ("max_total", recording.max_total, "\"1GiB\""),
            ("queue", recording.queue, "\"16MiB\""),
        ];
        for (name, size, example) in sizes {
            self.not_zero(&["recording", name], size.bytes() == 0, example);
        }
        if recording.max_total.bytes() > 0 && recording.max_total < recording.max_file {
            self.error(
                &["recording", "max_total"],
                format!("{} is less than one file may have ({})", recording.max_total, recording.max_file),
                "raise it, or lower `max_file`",
            );
        }
        let tenants: Vec<&str> = self.config.keys.values().map(|key| key.tenant.as_str()).collect();
        for (index, tenant) in recording.tenants.iter().enumerate() {
            if !self.config.keys.is_empty() && !tenants.contains(&tenant.as_str()) {
                let index = format!("[{index}]");
                let reason = format!("no key in [keys] is of a tenant {tenant:?}");
                self.warning(&["recording", "tenants", &index], reason, suggest::remedy(tenant, &tenants));
            }
        }
        let redact = &recording.redact;
        let place =
            |key: &'static str, index: usize| [String::from("recording"), "redact".into(), key.into(), format!("[{index}]")];
        for (index, header) in redact.headers.iter().enumerate() {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if header.is_empty() || !header.bytes().all(is_name) {
                let reason = format!("{header:?} is not a header's name");
                self.rule(&place("headers", index), reason, "write a name such as \"x-user-id\"");
            }
        }
        for (index, pointer) in redact.pointers.iter().enumerate() {
            if !pointer.starts_with('/') {
                let reason = format!("{pointer:?} is not a pointer into a body");
                self.rule(&place("pointers", index), reason, "write one such as \"/user\" or \"/metadata/name\"");
            }
        }
        for (index, pattern) in redact.patterns.iter().enumerate() {
            match regex::Regex::new(pattern) {
                Ok(regex) if regex.is_match("") => {
                    let reason = format!("{pattern:?} matches where nothing is");
                    self.rule(&place("patterns", index), reason, "write one that matches at least one character");
                }
                Ok(_) => {}
                Err(error) => {
                    // Its own words are a drawing over several lines; the last has the reason.
                    let said = error.to_string();
                    let why = said.lines().last().unwrap_or_default().trim_start_matches("error: ").replace(';', ",");
                    self.rule(&place("patterns", index), format!("{pattern:?} is no regular expression: {why}"), "mend it");
                }
            }
        }
    }

    fn rule(&mut self, path: &[String; 4], reason: String, remedy: &str) {
        self.error(&path.each_ref().map(String::as_str), reason, remedy);
    }
}

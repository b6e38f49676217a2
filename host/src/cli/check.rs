//! `pointsman check FILE`: everything that is wrong with a configuration, or a summary of what it says.
//!
//! What it does not do: it listens nowhere and connects to nothing. All else that `serve` loads it loads too, so that what it passes
//! is served. It is stricter in one thing: a prompt that cannot be read, which `serve` goes without.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::{WRONG_INPUT, failed, log};
use crate::config::{self, Config, Finding, Hook, Loaded, Model};
use crate::process;

/// Checks a file, or prints the configuration's JSON schema. A summary or the schema goes to `out`, warnings and errors to
/// `err`. Exit code 0, or 2 if there is an error.
pub fn check(file: Option<&Path>, schema: bool, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let written = match file {
        Some(file) if !schema => check_file(file, out, err),
        _ => writeln!(out, "{:#}", config::schema()).map(|()| 0),
    };
    match written {
        Ok(code) => ExitCode::from(code),
        // Whoever reads (`| head`) has what he wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}

fn check_file(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match config::load_and(file, unfit) {
        Ok(loaded) => {
            loaded.warnings.iter().try_for_each(|warning| write!(err, "{warning}"))?;
            summary(file, &loaded, out)?;
            Ok(0)
        }
        Err(report) => {
            write!(err, "{report}")?;
            let count = report.errors().count();
            writeln!(err, "{}: {count} {}", file.display(), if count == 1 { "error" } else { "errors" })?;
            Ok(WRONG_INPUT)
        }
    }
}

/// All that would keep `serve` from serving it.
fn unfit(config: &Config) -> Vec<Finding> {
    let mut found = process::examine(config);
    found.extend(log::filter(&config.log).err());
    found
}

fn summary(file: &Path, loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let config = &loaded.config;
    writeln!(out, "{}: ok", file.display())?;
    let scheme = if config.listen.tls.is_some() { "https" } else { "http" };
    writeln!(out, "  listen     {scheme}://{}, {}", config.listen.address, callers(config))?;
    if let Some(admin) = &config.admin {
        writeln!(out, "  admin      http://{}", admin.address)?;
    }
    for (name, provider) in &config.providers {
        writeln!(
            out,
            "  provider   {name}: {}",
            provider.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )?;
    }
    for (name, model) in &config.models {
        match model {
            Model::Concrete(model) if model.is_built_in() => {
                writeln!(out, "  model      {name}: {}, computed here", model.name)?;
            }
            Model::Concrete(model) => writeln!(out, "  model      {name}: {} at {}", model.name, model.provider)?,
            Model::Virtual(model) => writeln!(out, "  model      {name}: one of {}", model.choose.join(", "))?,
        }
    }
    for (name, plugin) in &config.plugins {
        let hooks: Vec<_> = plugin.hooks.iter().map(hook).collect();
        write!(out, "  plugin     {name}: {} by {}", hooks.join(", "), plugin.component.display())?;
        for (what, names) in [("tenants", &plugin.tenants), ("models", &plugin.models)] {
            if !names.is_empty() {
                write!(out, ", {what} {}", names.join(", "))?;
            }
        }
        writeln!(out)?;
    }
    if let Some(prompts) = &config.prompts {
        writeln!(out, "  prompts    {}", prompts.path.display())?;
    }
    if let Some(cache) = &config.cache {
        let tier = if cache.semantic.is_some() { "exact and semantic" } else { "exact" };
        write!(out, "  cache      {}, {tier}, for {}", cache.memory, cache.ttl)?;
        if let Some(redis) = &cache.redis {
            write!(out, ", then {}", redis.url)?;
        }
        if let Some(disk) = &cache.disk {
            write!(out, ", then {} of {}", disk.size, disk.path.display())?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn callers(config: &Config) -> String {
    match config.keys.len() {
        0 => "no key needed".to_owned(),
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    }
}

fn hook(hook: &Hook) -> &'static str {
    match hook {
        Hook::Routing => "routing",
        Hook::Prompting => "prompting",
        Hook::Caching => "caching",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = check_file(&file, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&format!("{}/", folder.path().display()), "");
        (code, text(out), text(err))
    }

    #[test]
    fn a_good_file_is_summed_up() {
        let (code, out, err) = run("[providers.a]\nkind = \"openai\"\nendpoints = [\"http://127.0.0.1:1/v1\"]\n\
             [models.small]\nprovider = \"a\"\nname = \"tiny\"\n[models.auto]\nchoose = [\"small\"]\n[cache]\n[cache.semantic]\n");
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "p.toml: ok\n  listen     http://127.0.0.1:8080, no key needed\n  provider   a: http://127.0.0.1:1/v1\n  \
             model      small: tiny at a\n  model      auto: one of small\n  cache      256MiB, exact and semantic, for 1h\n"
        );
    }

    #[test]
    fn a_bad_file_is_refused_with_every_error() {
        let (code, out, err) = run("[listen]\nadress = 1\nthreads = 0\n");
        assert_eq!((code, out.as_str()), (WRONG_INPUT, ""));
        assert_eq!(
            err,
            "p.toml:2:1: listen.adress: unknown key `adress`; did you mean `address`?\n  2 | adress = 1\n    | ^^^^^^\n\
             p.toml:3:11: listen.threads: this may not be 0; write a value above 0, such as 64\n  3 | threads = 0\n    |           ^\n\
             p.toml: 2 errors\n"
        );
    }

    /// The folder that is written to was told to be wrong as well.
    #[test]
    fn a_bad_pattern_is_one_error() {
        let (code, _, err) = run("[recording]\npath = \"r\"\n[recording.redact]\npatterns = [\"[a-z\"]\n");
        assert!(code == WRONG_INPUT && err.contains("patterns[0]") && err.ends_with("p.toml: 1 error\n"), "{err}");
    }

    /// A plugin whose interpreter begins with each call loses calls, and nothing said so before.
    #[test]
    fn an_interpreter_is_given_what_it_needs() {
        let warned = |more: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = std::fs::File::create(folder.path().join("p.wasm")).unwrap();
            file.set_len(5 << 20).unwrap();
            let text = format!("[plugins.p]\ncomponent = \"p.wasm\"\nhooks = [\"routing\"]\n{more}");
            let loaded = config::load_text(&text, &folder.path().join("p.toml")).unwrap();
            loaded.warnings.iter().map(ToString::to_string).collect::<String>()
        };
        let bare = warned("");
        assert!(
            bare.contains("plugins.p.reuse: ") && bare.contains("plugins.p.memory: ") && bare.contains("`reuse = true`"),
            "{bare}"
        );
        assert_eq!(warned("reuse = true\nmemory = \"32MiB\"\n"), "");
        assert_eq!(warned("deadline = \"50ms\"\nmemory = \"32MiB\"\n"), "");
    }

    #[test]
    fn room_for_stories() {
        let told = |explain: &str| {
            run(&format!("[listen]\nthreads = 2\n[admin]\naddress = \"127.0.0.1:9090\"\nexplain = {explain:?}\n")).2
        };
        let err = told("16KiB");
        assert!(err.contains("admin.explain: ") && err.contains("at least \"24KiB\""), "{err}");
        assert!(!told("24KiB").contains("explain"), "{}", told("24KiB"));
    }

    /// Whoever wants to undo a release has a file in his hands that he is just editing.
    #[test]
    fn the_admin_section_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        let admin = |text: &str| {
            std::fs::write(&file, text).unwrap();
            config::admin(&file).map(|admin| admin.map(|admin| admin.address.to_string()))
        };
        let own = "[admin]\naddress = \"127.0.0.1:9\"\n";
        assert_eq!(admin(&format!("{own}[listen]\nadress = 1\n")).unwrap().as_deref(), Some("127.0.0.1:9"));
        assert!(admin(&format!("{own}key = 1\n")).is_err() && admin("[admin\n").is_err());
        assert_eq!(admin("[listen]\nadress = 1\n").unwrap(), None);
    }

    #[test]
    fn the_schema_is_json() {
        let mut out = Vec::new();
        check(None, true, &mut out, &mut Vec::new());
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(schema["$defs"]["Listen"]["properties"]["drain"]["default"], "30s");
    }
}

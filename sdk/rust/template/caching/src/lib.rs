//! Caching: answers are shared among one user's requests, and empty ones are not kept.
//!
//! ```toml
//! [plugins.{{name}}]
//! component = "{{name}}.wasm"
//! hooks = ["caching"]
//! grant = ["config"]
//! config = { user = "x-user-id", minutes = 10 }
//! ```

use std::time::Duration;

use pointsman_plugin::{
    Admission, CacheKey, Caching, Directive, PluginError, Request, RequestHead, Response, Result, Scope, config,
};

struct Policy;

impl Caching for Policy {
    // Asked once, when the plugin is loaded: a wrong setting never meets a request.
    fn check() -> Result<()> {
        config::require::<String>("user")?;
        minutes().map(drop)
    }

    fn key(_: &RequestHead, request: &Request) -> Result<Directive> {
        // Nobody knows whose request it is, so nobody may share it. The host puts the tenant before every key in any case.
        let Some(user) = request.header(&config::require::<String>("user")?) else { return Ok(Directive::Bypass) };
        Ok(CacheKey::of(Scope::Custom(user)).ttl(Duration::from_secs(60 * minutes()?)).admit().into())
    }

    fn admit(_: &RequestHead, _: &Request, response: &Response) -> Result<Admission> {
        let is_empty = response.text(64).trim().is_empty();
        Ok(if is_empty { Admission::Refuse } else { Admission::Keep })
    }
}

/// How long an answer is kept.
fn minutes() -> Result<u64> {
    let minutes = config::parse("minutes")?.unwrap_or(10);
    if minutes == 0 {
        return Err(PluginError::setting("minutes", "is 0", "write how long an answer is kept, such as 10"));
    }
    Ok(minutes)
}

pointsman_plugin::export!(Policy: caching);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::mock::{Answer, Host};

    #[test]
    fn each_user_has_a_part_of_their_own() {
        let host = Host::new().config("user", "x-user-id");
        assert_eq!(host.key::<Policy>(), Ok(Directive::Bypass));
        let key = CacheKey::of(Scope::Custom("ada".into())).ttl(Duration::from_secs(600)).admit();
        assert_eq!(host.header("x-user-id", "ada").key::<Policy>(), Ok(key.into()));
    }

    #[test]
    fn nothing_is_not_kept() {
        let host = Host::new().config("user", "x-user-id");
        assert_eq!(host.admit::<Policy>(&Answer::of(" ")), Ok(Admission::Refuse));
        assert_eq!(host.admit::<Policy>(&Answer::of("Paris.")), Ok(Admission::Keep));
    }
}

//! The few questions that are asked of a gateway beside the load: is it there, and did its plugins do what they should?
//!
//! **Invariant:** no question waits longer than [`WAIT`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::Process;

const WAIT: Duration = Duration::from_secs(60);
/// Between two looks at a server that starts.
const LOOK: Duration = Duration::from_micros(200);

/// A free port of loopback. Another process may take it before its server does, which then says so and ends.
pub fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Status and body of a GET.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, WAIT)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Waits until a GET is answered with 200, or with anything where `any` is said.
pub fn wait_for(process: &mut Process, address: SocketAddr, path: &str, any: bool) -> Result<()> {
    let began = Instant::now();
    loop {
        if get(address, path).is_ok_and(|(status, _)| status == 200 || (any && status > 0)) {
            return Ok(());
        }
        process.alive()?;
        if began.elapsed() > WAIT {
            return Err(format!("nothing answers at {address}{path}:\n{}", process.said()).into());
        }
        std::thread::sleep(LOOK);
    }
}

/// Calls of all plugins so far. A failure of one is an error: its figures would be those of a gateway without it.
pub fn plugin_calls(admin: SocketAddr) -> Result<u64> {
    let (status, body) = get(admin, "/api/plugins")?;
    calls(&body).map_err(|error| format!("the plugins of the gateway (status {status}): {error}").into())
}

fn calls(body: &str) -> Result<u64> {
    let report: serde_json::Value = serde_json::from_str(body)?;
    let mut total = 0;
    for plugin in report["plugins"].as_array().ok_or("no list of plugins")? {
        let failures: u64 =
            plugin["failures"].as_object().ok_or("no failures")?.values().filter_map(serde_json::Value::as_u64).sum();
        if failures > 0 {
            return Err(format!("{} failed {failures} times: {}", plugin["name"], plugin["failures"]).into());
        }
        total += plugin["calls"].as_u64().ok_or("no count of calls")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn failures_are_not_counted_as_calls() {
        let of = |trap: u32| {
            format!(
                r#"{{"plugins":[{{"name":"a","calls":3,"failures":{{"trap":{trap},"memory":0}}}},{{"name":"b","calls":4,"failures":{{}}}}]}}"#
            )
        };
        assert_eq!(calls(&of(0)).unwrap(), 7);
        assert!(calls(&of(2)).unwrap_err().to_string().contains("failed 2 times"));
        assert!(calls("{}").is_err());
    }
}

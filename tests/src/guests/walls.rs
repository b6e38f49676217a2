//! Guests that ask WASI for what no plugin has, as WebAssembly text: files, the environment, arguments, the network.
//!
//! **Invariant:** each is told of by what it got: it traps if it got something, its control if it got nothing. So a call that was never made
//! does not pass for one that was refused.

use super::hostile::{At, Hostile, NOTHING};

/// What a guest tries, and how its core module finds out what it got.
pub struct Wall {
    /// What it wants.
    pub name: &'static str,
    imports: &'static str,
    /// Leaves a number that is not 0 if it got something.
    got: &'static str,
}

/// All of them.
pub const ALL: [Wall; 5] = [
    Wall {
        name: "files",
        imports: r#"(import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))"#,
        got: "(call $directories (i32.const 4000)) (i32.load (i32.const 4004))",
    },
    Wall {
        name: "environment",
        imports: r#"(import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))"#,
        got: "(call $environment (i32.const 4000)) (i32.load (i32.const 4004))",
    },
    Wall {
        name: "arguments",
        imports: r#"(import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments_of (param i32)))"#,
        got: "(call $arguments_of (i32.const 4000)) (i32.load (i32.const 4004))",
    },
    Wall {
        name: "a connection",
        imports: r#"
            (import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
            (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket" (func $socket (param i32 i32)))
            (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.start-connect" (func $connect
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
        // 127.0.0.1:80. Where there is not even a socket, there is no connection.
        got: "(call $socket (i32.const 0) (i32.const 4000))
            (if (result i32) (i32.load8_u (i32.const 4000))
                (then (i32.const 0))
                (else
                    (call $connect (i32.load (i32.const 4004)) (call $network)
                        (i32.const 0) (i32.const 80) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
                        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                        (i32.const 4016))
                    (i32.eqz (i32.load8_u (i32.const 4016)))))",
    },
    Wall {
        name: "an address",
        imports: r#"
            (import "wasi:sockets/instance-network@0.2.0" "instance-network" (func $network (result i32)))
            (import "wasi:sockets/ip-name-lookup@0.2.0" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))"#,
        // "small", which lies there.
        got: "(call $resolve (call $network) (i32.const 3500) (i32.const 5) (i32.const 4000)) (i32.eqz (i32.load8_u (i32.const 4000)))",
    },
];

impl Wall {
    /// A component that traps if it gets what it wants, or, as a `control`, if it does not.
    pub fn component(&self, control: bool) -> Vec<u8> {
        let got = if control { "(i32.eqz)" } else { "" };
        let fields = format!("(func $got (result i32) {} {got})", self.got);
        Hostile {
            name: self.name,
            imports: self.imports,
            fields: fields.leak(),
            deed: "(if (call $got) (then unreachable))",
            ..NOTHING
        }
        .component(At::Route)
    }
}

/// The part of WASI that they ask for.
pub(super) const WORLD: &str = "
package wasi:filesystem@0.2.0 {
    interface types { resource descriptor; }
    interface preopens {
        use types.{descriptor};
        get-directories: func() -> list<tuple<descriptor, string>>;
    }
}
package wasi:cli@0.2.0 {
    interface environment {
        get-environment: func() -> list<tuple<string, string>>;
        get-arguments: func() -> list<string>;
    }
}
package wasi:sockets@0.2.0 {
    interface network {
        resource network;
        enum error-code {
            unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict, not-in-progress,
            would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use, remote-unreachable, connection-refused,
            connection-reset, connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure,
            permanent-resolver-failure,
        }
        enum ip-address-family { ipv4, ipv6 }
        type ipv4-address = tuple<u8, u8, u8, u8>;
        type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
        record ipv4-socket-address { port: u16, address: ipv4-address }
        record ipv6-socket-address { port: u16, flow-info: u32, address: ipv6-address, scope-id: u32 }
        variant ip-socket-address { ipv4(ipv4-socket-address), ipv6(ipv6-socket-address) }
    }
    interface instance-network {
        use network.{network};
        instance-network: func() -> network;
    }
    interface tcp {
        use network.{network, error-code, ip-socket-address};
        resource tcp-socket {
            start-connect: func(network: borrow<network>, remote-address: ip-socket-address) -> result<_, error-code>;
        }
    }
    interface tcp-create-socket {
        use network.{error-code, ip-address-family};
        use tcp.{tcp-socket};
        create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
    }
    interface ip-name-lookup {
        use network.{network, error-code};
        resource resolve-address-stream;
        resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
    }
}
";

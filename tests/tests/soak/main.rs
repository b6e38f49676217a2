//! A thousand users, most of them with streams, while endpoints fail, the configuration reloads, plugins are swapped, and process
//! after process takes over. They ask a plain pool, one that hedges, a cascade, and a pool with a gate whose streams are gone on with;
//! some of it is cached, and answers are degraded when too much is out. For two minutes, or `POINTSMAN_SOAK_SECONDS`; what happens when
//! is drawn from `POINTSMAN_SOAK_SEED`, and is told when the test fails.
//!
//! `users` ask `questions`, and `judge` holds what they see to what may be seen; `setup` is the host's configuration, `world` what
//! happens to it, `watch` what its numbers tell.
//!
//! What it does not do: it loads the host as far as it goes; the users read and think, so that a small machine can be all of them.
//!
//! **Invariant:** what a user sees is an answer that is whole, a stream that says that it broke, or a typed refusal. As many streams may
//! break as faults were done to them, and a thousandth of all requests may be refused.
//! **Invariant:** whatever it is about has happened: no hedge, no escalation, no continuation, no cached or degraded answer is a failure.

mod judge;
mod questions;
mod setup;
mod tally;
mod users;
mod watch;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tests::Door;

use tally::{Sign, Tally};
use world::World;

const USERS: u64 = 1_000;
/// Resident memory that no process may exceed; at this load one has some 100 MiB.
const MEMORY: u64 = 192 << 20;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

#[test]
fn a_thousand_users_see_whole_answers_or_are_told() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The users' ends of their connections are files of this process, and so are the endpoints'.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let time = Duration::from_secs(setting("POINTSMAN_SOAK_SECONDS").unwrap_or(120));
    let seed = setting("POINTSMAN_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let (mut world, tally) = (World::new(seed), Tally::default());
    let door = Door::clone(world.running());
    std::thread::scope(|scope| {
        for number in 0..USERS {
            let (door, tally) = (&door, &tally);
            let small = std::thread::Builder::new().stack_size(256 << 10);
            small.spawn_scoped(scope, move || users::user(number, seed, door, tally)).unwrap();
        }
        // However it ends, the users end with it.
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(time, &tally)));
        world.heal();
        tally.end();
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let faults = world.faults();
    println!("seed {seed}: {} for {faults} faults\n{:?}", tally.told(), world.watch);
    let wrong = tally.wrong();
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    let replaced = world.all_end();
    println!("{replaced} processes were replaced, {} revisions of the plugin", world.revision);
    holds(&world, &tally, faults, replaced, time);
}

/// What must have come of it all.
fn holds(world: &World, tally: &Tally, faults: usize, replaced: usize, time: Duration) {
    let [whole, broken, refused, continued, stale] =
        [Sign::Whole, Sign::Broken, Sign::Refused, Sign::Continued, Sign::Stale].map(|sign| tally.count(sign));
    assert!(replaced >= 2 && world.revision >= 2, "too short a run to show anything");
    // It is one in some five seconds for each.
    assert!(whole as u64 > USERS * time.as_secs() / 10, "{whole} answers: the users were not served");
    assert!(broken > 0 && broken + continued <= faults, "{broken} streams broke, {continued} were gone on with: {faults} faults");
    assert!(refused * 1_000 <= whole, "{refused} refused");
    assert!(stale <= replaced * 10, "{stale} connections were closed under a request, in {replaced} handovers");
    for sign in [Sign::Escalated, Sign::Continued, Sign::Cached, Sign::Degraded] {
        assert!(tally.count(sign) > 0, "nothing was {sign:?}");
    }
    let watch = &world.watch;
    assert!(watch.count("pointsman_hedges_total") > 0.0, "no hedge was sent");
    assert!(watch.limits.len() > 1, "the gate's limit never moved: {:?}", watch.limits);
    assert!(watch.level > 0.0, "no level was ever entered");
    assert!(watch.memory < MEMORY, "{} MiB", watch.memory >> 20);
}

//! Which endpoint gets a request: from what is seen of each to a choice.
//!
//! | affinity | rule |
//! |---|---|
//! | none | two by chance, by weight; of them the one where a request more costs less: time until answers begin × requests there |
//! | session | rendezvous hashing with bounded load: the highest-ranked endpoint that has not more than half as much again as its share |
//! | prefix | the least work until this answer can begin, among those that hold the prompt's beginning, its home, and two by chance |
//!
//! Work is counted in bytes of prompt: what waits there to be read, and what of this prompt is not in the endpoint's cache. So a
//! long common beginning is worth a longer queue and a short one is not, without a threshold that says which; a prefix that
//! becomes hot overflows to a second endpoint, which then holds it as well. What is known to nobody is believed to be at its home,
//! which rendezvous hashing gives: gateways that know nothing of one another agree on it, and one endpoint more moves only that
//! endpoint's share.
//!
//! The numbers below were chosen in the simulator (`tests/src/fleet.rs`); docs/balancing.md has what they come to.
//!
//! What it does not do: it reads no clock and no counter, and leaves out nobody: `pool` says who may be asked.
//!
//! **Invariant:** pure: the same sight, wish and chance give the same choice.

use http::HeaderName;

use super::holders::Held;
use crate::dialect::prefix::{self, Prefix, mix};

/// Which requests go to the same endpoint, as the owner has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// None.
    #[default]
    None,
    /// Those of a session, which this header names where it is there.
    Session(HeaderName),
    /// Those that begin alike.
    Prefix,
}

/// What a request would like, beside being answered soon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing.
    #[default]
    None,
    /// To go where others of its session went, named by a hash.
    Session(u64),
    /// To go where its prompt's beginning is cached.
    Prefix(Prefix),
}

/// What is known of an endpoint from the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// What tells it from others, the same on every gateway.
    pub salt: u64,
    /// Its weight, compared with the largest of the pool: above 0, up to 1.
    pub weight: f32,
    /// It is in another zone.
    pub far: bool,
}

/// What is seen of an endpoint now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Requests there, those of other gateways included where its metrics tell.
    pub pending: f32,
    /// Bytes of prompts that wait there for their answers to begin.
    pub work: f32,
    /// Time until its answers begin, in milliseconds; none: unknown.
    pub cost: Option<f32>,
    /// Milliseconds for each byte of work; none: unknown.
    pub pace: Option<f32>,
    /// The share of its weight that it is to get: below 1 while it comes back from a failure.
    pub share: f32,
    /// How much of its KV memory requests use, 0 to 1.
    pub kv: f32,
    /// What the request costs there by comparison, for how the endpoint suits its model.
    pub fit: f32,
}

/// Somebody who sees endpoints.
pub trait Sight {
    /// What an endpoint is from the beginning.
    fn standing(&self, place: usize) -> Standing;
    /// Requests there.
    fn pending(&self, place: usize) -> f32;
    /// All that can be seen.
    fn seen(&self, place: usize) -> Seen;
    /// Is any endpoint in another zone?
    fn zones(&self) -> bool;
    /// Has any a smaller weight than others?
    fn weights(&self) -> bool;
    /// Of these one by chance that suits the request better than others do.
    fn suited(&self, places: &[usize], random: &mut fastrand::Rng) -> Option<usize>;
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The endpoint's place.
    pub place: usize,
    /// The work that it means there, in bytes of prompt.
    pub work: u32,
    /// All work there until its answer can begin; 0 where nobody counts it.
    pub ahead: f32,
}

/// What a request more costs in another zone, by comparison.
const FAR: f32 = 2.0;
/// The KV memory from which on a server may have to put requests off, and how much dearer it is when it is full.
const KV_FULL: f32 = 0.9;
const KV_COST: f32 = 2.0;
/// Milliseconds below which endpoints are equally near: what is forgotten is no reason to crowd an endpoint.
const COST_MIN: f32 = 1.0;
/// What a request that is being answered costs the next one, in bytes of prompt.
const ANSWERING: f32 = 256.0;
/// The pace below which, compared with the others', an endpoint is not taken to be quicker.
const PACE_MIN: f32 = 0.5;
/// What of a prompt's unknown part is believed to be cached where it is at home, since another gateway may have sent it there.
const BELIEVED: f32 = 0.75;
/// A session leaves an endpoint that has so many times its share of requests, and more than a few.
const SESSION_BOUND: f32 = 1.5;
const SESSION_FEW: f32 = 4.0;
/// How often chance may name an endpoint that has a small weight before it is taken all the same.
const DRAWS: usize = 64;

/// A choice among these places, in their order; none where there are none. `held`: who holds how much of the prompt.
pub fn choose(
    places: &[usize],
    sight: &impl Sight,
    affinity: &Affinity,
    held: &[Held],
    random: &mut fastrand::Rng,
) -> Option<Choice> {
    match affinity {
        Affinity::Session(name) => Some(Choice { place: session(places, sight, *name)?, work: 0, ahead: 0.0 }),
        Affinity::Prefix(prefix) => by_prefix(places, sight, prefix, held, random),
        Affinity::None => {
            let cost = |place: &usize| {
                let seen = sight.seen(*place);
                let (usual, standing) = (usual(places, sight, &seen), sight.standing(*place));
                usual.max(COST_MIN) * (seen.pending / standing.weight + 1.0) * seen.dear(&standing)
            };
            let place = named(places, sight, random).into_iter().flatten().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
            Some(Choice { place, work: 0, ahead: 0.0 })
        }
    }
}

impl Seen {
    /// By how much a request is dearer there than what waits there says.
    fn dear(&self, standing: &Standing) -> f32 {
        let far = if standing.far { FAR } else { 1.0 };
        let full = ((self.kv - KV_FULL) / (1.0 - KV_FULL)).clamp(0.0, 1.0);
        self.fit * far * (1.0 + KV_COST * full) / self.share
    }
}

/// What an endpoint's answers take to begin; where nothing is known yet, as long as the others'.
fn usual(places: &[usize], sight: &impl Sight, seen: &Seen) -> f32 {
    seen.cost.unwrap_or_else(|| {
        let known = places.iter().filter_map(|place| sight.seen(*place).cost);
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), cost| (sum + cost, count + 1.0));
        if count > 0.0 { sum / count } else { COST_MIN }
    })
}

/// Two different places by chance and by weight; where there are zones two of our own, and one of another. And where some suit the
/// request better one of those.
fn named(places: &[usize], sight: &impl Sight, random: &mut fastrand::Rng) -> [Option<usize>; 4] {
    let suited = sight.suited(places, random);
    if !sight.zones() {
        let [one, other] = two(places, sight, random);
        return [one, other, None, suited];
    }
    let (far, near): (Vec<usize>, Vec<usize>) = places.iter().partition(|place| sight.standing(**place).far);
    let [one, other] = two(&near, sight, random);
    let [third, fourth] = two(&far, sight, random);
    [one.or(fourth), other, third, suited]
}

/// Where weights differ both may be the same place: then a pool with hardly anything to do, where nothing tells the two apart, is used by
/// weight as well.
fn two(places: &[usize], sight: &impl Sight, random: &mut fastrand::Rng) -> [Option<usize>; 2] {
    let weights = sight.weights();
    if places.len() < if weights { 2 } else { 3 } {
        // Of two that cost the same, the first named gets the request.
        let [one, other] = [places.first().copied(), places.get(1).copied()];
        return if random.bool() { [one, other] } else { [other, one] };
    }
    let mut draw = |not: Option<usize>| {
        let mut last = not;
        for _ in 0..DRAWS {
            let place = places[random.usize(..places.len())];
            if Some(place) == not {
                continue;
            }
            last = Some(place);
            let weight = sight.standing(place).weight;
            // Most pools have equal weights, and need no second number.
            if weight >= 1.0 || random.f32() < weight {
                break;
            }
        }
        last
    };
    let one = draw(None);
    [one, draw(one.filter(|_| !weights))]
}

/// The least work before this answer can begin.
fn by_prefix(places: &[usize], sight: &impl Sight, prefix: &Prefix, held: &[Held], random: &mut fastrand::Rng) -> Option<Choice> {
    // Each with what it holds of the prompt.
    let mut among: Vec<(usize, usize)> = Vec::with_capacity(held.len() + 4);
    among.extend(held.iter().map(|held| (held.place, held.bytes)).filter(|(place, _)| places.binary_search(place).is_ok()));
    let believed = |cached: usize| cached + (prefix.bytes().saturating_sub(cached) as f32 * BELIEVED) as usize;
    match among.iter().map(|(_, cached)| *cached).max() {
        None => {
            let home = prefix.blocks().first().and_then(|name| ranked(places, sight, *name, |_| true));
            among.extend(home.map(|home| (home, believed(0))));
        }
        // What follows the part that is known is at home at one of those that hold this part.
        Some(most) => {
            let next = (0..).zip(prefix.blocks()).find(|(index, _)| prefix::end(*index) > most);
            let holders: Vec<usize> = among.iter().filter(|(_, cached)| *cached == most).map(|(place, _)| *place).collect();
            let home = next.and_then(|(_, name)| ranked(&holders, sight, *name, |_| true));
            among.iter_mut().filter(|(place, _)| Some(*place) == home).for_each(|(_, cached)| *cached = believed(*cached));
        }
    }
    for place in named(places, sight, random).into_iter().flatten() {
        if !among.iter().any(|(known, _)| *known == place) {
            among.push((place, 0));
        }
    }
    let seen: Vec<Seen> = among.iter().map(|(place, _)| sight.seen(*place)).collect();
    let known = seen.iter().filter_map(|seen| seen.pace);
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), pace| (sum + pace, count + 1.0));
    let usual = if count > 0.0 { sum / count } else { 1.0 };
    let choices = among.iter().zip(&seen).map(|((place, cached), seen)| {
        let own = prefix.bytes().saturating_sub(*cached) as f32;
        let ahead = seen.work + own + ANSWERING * (seen.pending + 1.0);
        // What is forgotten is no reason to crowd an endpoint. The root: one slow answer says more of itself than of its server.
        let pace = seen.pace.unwrap_or(usual).max(usual * PACE_MIN);
        let standing = sight.standing(*place);
        (ahead * pace.sqrt() * seen.dear(&standing) / standing.weight, Choice { place: *place, work: own as u32, ahead })
    });
    choices.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, choice)| choice)
}

/// The highest rank among those that have room.
fn session(places: &[usize], sight: &impl Sight, name: u64) -> Option<usize> {
    let (pending, weights) = places
        .iter()
        .fold((1.0, 0.0), |(pending, weights), place| (pending + sight.pending(*place), weights + sight.standing(*place).weight));
    let has_room = |place| {
        let seen = sight.seen(place);
        let bound = SESSION_BOUND * pending * sight.standing(place).weight / weights;
        seen.pending < bound.max(SESSION_FEW) * seen.share
    };
    ranked(places, sight, name, has_room).or_else(|| ranked(places, sight, name, |_| true))
}

/// Rendezvous hashing: over all names each place is first as often as its weight says, and where one place goes or comes, only
/// its own names move. Our own zone is before others.
fn ranked(places: &[usize], sight: &impl Sight, name: u64, has_room: impl Fn(usize) -> bool) -> Option<usize> {
    let mut best: Option<(bool, f32, usize)> = None;
    for place in places {
        let Standing { salt, weight, far } = sight.standing(*place);
        let uniform = (mix(name ^ salt) >> 40) as f32 / (1_u32 << 24) as f32;
        let rank = if weight < 1.0 { uniform.powf(1.0 / weight) } else { uniform };
        if best.is_none_or(|(near, highest, _)| (!far, rank) > (near, highest)) && has_room(*place) {
            best = Some((!far, rank, *place));
        }
    }
    best.map(|(_, _, place)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Fleet(Vec<(Standing, Seen)>);

    impl Sight for Fleet {
        fn standing(&self, place: usize) -> Standing {
            self.0[place].0
        }

        fn pending(&self, place: usize) -> f32 {
            self.0[place].1.pending
        }

        fn seen(&self, place: usize) -> Seen {
            self.0[place].1
        }

        fn zones(&self) -> bool {
            self.0.iter().any(|(standing, _)| standing.far)
        }

        fn weights(&self) -> bool {
            self.0.iter().any(|(standing, _)| standing.weight < 1.0)
        }

        fn suited(&self, places: &[usize], random: &mut fastrand::Rng) -> Option<usize> {
            let suited: Vec<usize> = places.iter().copied().filter(|place| self.0[*place].1.fit < 1.0).collect();
            random.choice(suited)
        }
    }

    impl Fleet {
        fn of(count: usize) -> Self {
            let idle = Seen { pending: 0.0, work: 0.0, cost: None, pace: None, share: 1.0, kv: 0.0, fit: 1.0 };
            let standing = |place: usize| Standing { salt: mix(place as u64 + 1), weight: 1.0, far: false };
            Self((0..count).map(|place| (standing(place), idle)).collect())
        }

        fn with(mut self, change: impl Fn(usize, &mut Standing, &mut Seen)) -> Self {
            self.0.iter_mut().enumerate().for_each(|(place, (standing, seen))| change(place, standing, seen));
            self
        }

        fn pick(&self, affinity: &Affinity, held: &[Held], random: &mut fastrand::Rng) -> usize {
            let places: Vec<usize> = (0..self.0.len()).collect();
            choose(&places, self, affinity, held, random).unwrap().place
        }

        /// How many of a thousand requests each place gets, if they stay.
        fn shares(mut self, affinity: impl Fn(u64) -> Affinity) -> Vec<f32> {
            let mut random = fastrand::Rng::with_seed(7);
            for request in 0..1_000 {
                let place = self.pick(&affinity(request), &[], &mut random);
                self.0[place].1.pending += 1.0;
            }
            self.0.iter().map(|(_, seen)| seen.pending).collect()
        }
    }

    fn prompt(bytes: usize) -> Affinity {
        Affinity::Prefix(Prefix::of("m", [vec![b'x'; bytes].as_slice()]))
    }

    #[test]
    fn who_is_alike_gets_alike() {
        let fleet = Fleet::of(2);
        let mut random = fastrand::Rng::with_seed(2);
        let first = (0..1_000).filter(|_| fleet.pick(&Affinity::None, &[], &mut random) == 0).count();
        assert!((400..600).contains(&first), "{first}");
    }

    /// With hardly anything to do the heaviest of two got everything, and of three nearly everything: what a request more costs was by
    /// weight, and so was who was asked.
    #[test]
    fn weights_are_shares_of_hardly_anything_too() {
        for weights in [&[1.0, 0.5][..], &[1.0, 0.25, 0.25], &[1.0, 1.0, 0.5, 0.1]] {
            let fleet = Fleet::of(weights.len()).with(|place, standing, _| standing.weight = weights[place]);
            let (mut random, mut got) = (fastrand::Rng::with_seed(7), vec![0.0; weights.len()]);
            (0..20_000).for_each(|_| got[fleet.pick(&Affinity::None, &[], &mut random)] += 1.0 / 20_000.0);
            let all: f32 = weights.iter().sum();
            for (got, weight) in got.iter().zip(weights) {
                assert!((got - weight / all).abs() < 0.02, "{weights:?}: {got:?}");
            }
        }
    }

    #[test]
    fn weights_are_shares() {
        let fleet = Fleet::of(10).with(|place, standing, _| standing.weight = if place == 0 { 1.0 } else { 0.1 });
        let shares = fleet.shares(|_| Affinity::None);
        assert!((450.0..600.0).contains(&shares[0]), "10 of 19: {shares:?}");
        let names = Fleet::of(10).with(|place, standing, _| standing.weight = if place == 0 { 1.0 } else { 0.1 });
        let shares = names.shares(|name| Affinity::Session(mix(name)));
        assert!((450.0..600.0).contains(&shares[0]), "of sessions too: {shares:?}");
    }

    #[test]
    fn our_own_zone_is_first_until_it_is_twice_as_busy() {
        let zones = || Fleet::of(10).with(|place, standing, _| standing.far = place >= 3);
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            for affinity in [Affinity::None, Affinity::Session(random.u64(..)), prompt(4_000)] {
                assert!(zones().pick(&affinity, &[], &mut random) < 3, "{affinity:?}");
            }
        }
        let busy =
            zones().with(|_, standing, seen| (seen.pending, seen.work) = if standing.far { (2.0, 0.0) } else { (9.0, 1e5) });
        for affinity in [Affinity::None, prompt(4_000)] {
            assert!(busy.pick(&affinity, &[], &mut random) >= 3, "{affinity:?}");
        }
        let none_here = Fleet::of(4).with(|_, standing, _| standing.far = true);
        assert!(none_here.pick(&Affinity::None, &[], &mut random) < 4);
    }

    #[test]
    fn a_session_stays_and_leaves_who_has_too_many() {
        let fleet = Fleet::of(8);
        let mut random = fastrand::Rng::with_seed(1);
        let session = Affinity::Session(42);
        let home = fleet.pick(&session, &[], &mut random);
        assert!((0..50).all(|_| fleet.pick(&session, &[], &mut random) == home));
        let busy = fleet.clone().with(|place, _, seen| seen.pending = if place == home { 30.0 } else { 10.0 });
        let second = busy.pick(&session, &[], &mut random);
        assert_ne!(second, home);
        assert!((0..50).all(|_| busy.pick(&session, &[], &mut random) == second), "and all of it to the same other one");
        // One endpoint less moves nobody else.
        let places: Vec<usize> = (0..8).filter(|place| *place != (home + 1) % 8).collect();
        assert_eq!(choose(&places, &fleet, &session, &[], &mut random).unwrap().place, home);
    }

    #[test]
    fn a_longer_beginning_is_worth_a_longer_queue() {
        let mut random = fastrand::Rng::with_seed(5);
        let held = [Held { place: 2, bytes: 8_192 }, Held { place: 5, bytes: 1_024 }];
        let queue = |bytes: f32| Fleet::of(8).with(move |place, _, seen| seen.work = if place == 2 { bytes } else { 0.0 });
        let mut pick = |fleet: &Fleet| fleet.pick(&prompt(10_000), &held, &mut random);
        assert_eq!(pick(&queue(0.0)), 2);
        assert_eq!(pick(&queue(7_000.0)), 2, "2 KB to read behind 7 KB are less than 9 KB");
        assert_eq!(pick(&queue(9_000.0)), 5, "and behind 9 KB more than those");
        assert_ne!(pick(&queue(50_000.0).with(|place, _, seen| seen.work += if place == 5 { 50_000.0 } else { 0.0 })), 5);
    }

    #[test]
    fn a_prefix_that_nobody_holds_is_at_home_at_one_place() {
        let mut random = fastrand::Rng::with_seed(9);
        let fleet = Fleet::of(100);
        let home = fleet.pick(&prompt(4_000), &[], &mut random);
        assert!((0..50).all(|_| fleet.pick(&prompt(4_000), &[], &mut random) == home));
    }

    #[test]
    fn gateways_agree_on_who_of_the_holders_goes_on_with_a_conversation() {
        let fleet = Fleet::of(20);
        let held = |places: &[usize]| places.iter().map(|place| Held { place: *place, bytes: 1_024 }).collect::<Vec<_>>();
        let (ours, theirs) = (held(&[3, 5, 9, 12]), held(&[12, 9, 7, 5, 3]));
        let agree = (0..100_u64).filter(|talk| {
            let said = [vec![b's'; 1_024], talk.to_le_bytes().repeat(400)].concat();
            let affinity = Affinity::Prefix(Prefix::of("m", [said.as_slice()]));
            let pick = |held: &[Held], seed| fleet.pick(&affinity, held, &mut fastrand::Rng::with_seed(seed));
            pick(&ours, *talk) == pick(&theirs, talk + 1_000)
        });
        let agree = agree.count();
        assert!((65..=95).contains(&agree), "all but those whose home only one of them knows: {agree}");
    }

    #[test]
    fn slow_and_full_endpoints_get_less() {
        let mut random = fastrand::Rng::with_seed(11);
        let slow = Fleet::of(2).with(|place, _, seen| seen.pace = Some(if place == 0 { 1.0 } else { 0.05 }));
        assert!((0..50).all(|_| slow.pick(&prompt(400), &[], &mut random) == 1));
        let full = Fleet::of(2).with(|place, _, seen| seen.kv = if place == 0 { 1.0 } else { 0.3 });
        assert!((0..50).all(|_| full.pick(&Affinity::None, &[], &mut random) == 1));
    }
}

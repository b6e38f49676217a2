//! The gate, alone and before a simulated pool.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::limit::WINDOW;
use super::*;

fn gate(limit: u32, queue: u32) -> Arc<Gate> {
    Gate::new(Settings { start: limit, min: limit, max: limit, queue, wait: Duration::from_secs(10) })
}

fn tenant(name: &str) -> Arc<str> {
    name.into()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Puts requests in line one after another, and gives the order in which they get in as places are given back.
async fn order(gate: &Arc<Gate>, asked: &[(Priority, &'static str)]) -> Vec<&'static str> {
    let held = gate.try_enter(Priority::Interactive).unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tasks = LocalSet::new();
    for (lane, name) in asked {
        let (gate, tell, lane, name) = (gate.clone(), tell.clone(), *lane, *name);
        tasks.spawn_local(async move {
            let of = tenant(name.split(' ').next().unwrap());
            if gate.enter(lane, &of, soon()).await.is_ok() {
                let _ = tell.send(name);
            }
        });
    }
    drop(tell);
    tasks
        .run_until(async {
            tokio::task::yield_now().await;
            drop(held);
            let mut order = Vec::new();
            while let Some(name) = told.recv().await {
                order.push(name);
            }
            order
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn lanes_go_first_and_tenants_take_turns() {
    use Priority::{Batch, Interactive, Realtime};
    let asked = [
        (Batch, "a 1"),
        (Interactive, "a 2"),
        (Interactive, "a 3"),
        (Interactive, "a 4"),
        (Interactive, "b 5"),
        (Realtime, "c 6"),
        (Interactive, "b 7"),
    ];
    assert_eq!(order(&gate(1, 100), &asked).await, ["c 6", "a 2", "b 5", "a 3", "b 7", "a 4", "a 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_line_sends_the_lowest_away() {
    let gate = gate(1, 2);
    let (all, mine) = (
        order(
            &gate,
            &[(Priority::Batch, "a 1"), (Priority::Batch, "a 2"), (Priority::Interactive, "b 3"), (Priority::Batch, "a 4")],
        )
        .await,
        ["b 3", "a 1"],
    );
    assert_eq!(all, mine);
    assert_eq!((gate.shed[Priority::Batch as usize].get(), gate.shed[Priority::Interactive as usize].get()), (2, 0));
    assert_eq!(gate.view(), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn batch_is_no_pressure() {
    let gate = gate(1, 4);
    let _held = gate.try_enter(Priority::Interactive).unwrap();
    let who = tenant("a");
    let mut waiting = Vec::new();
    for (lane, pressed) in [
        (Priority::Batch, (0.0, 0)),
        (Priority::Interactive, (0.25, 0)),
        (Priority::Realtime, (0.5, 0)),
        (Priority::Batch, (0.5, 0)),
        (Priority::Batch, (0.5, 0)),
        // The batch that waits makes room, and then there is none.
        (Priority::Interactive, (0.75, 0)),
        (Priority::Interactive, (1.0, 0)),
        (Priority::Interactive, (1.0, 1)),
    ] {
        let mut enters = Box::pin(gate.enter(lane, &who, soon()));
        let _ = futures_util::poll!(&mut enters);
        waiting.push(enters);
        assert_eq!(gate.pressed(), pressed, "{lane:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_or_leaves_is_out_of_the_line() {
    let gate = gate(1, 10);
    let held = gate.try_enter(Priority::Interactive).unwrap();
    let shed = gate.enter(Priority::Batch, &tenant("a"), Instant::now() + Duration::from_millis(5)).await.err();
    assert!(shed.is_some_and(|Shed(after)| after >= Duration::from_secs(1)));
    {
        let who = tenant("a");
        let mut leaves = std::pin::pin!(gate.enter(Priority::Batch, &who, soon()));
        assert!(futures_util::poll!(&mut leaves).is_pending());
        assert_eq!(gate.view(), (1, 1, 1));
    }
    assert_eq!(gate.view(), (1, 1, 0));
    // One that is called and leaves before it hears of it.
    {
        let who = tenant("a");
        let mut leaves = std::pin::pin!(gate.enter(Priority::Batch, &who, soon()));
        assert!(futures_util::poll!(&mut leaves).is_pending());
        drop(held);
        assert_eq!(gate.view(), (1, 1, 0));
    }
    assert_eq!(gate.view(), (1, 0, 0));
}

/// A pool that bears 20 at a time, and queues what is more.
#[tokio::test(start_paused = true)]
async fn the_limit_finds_what_the_pool_bears() {
    let gate = Gate::new(Settings { start: 4, min: 1, max: 500, queue: 0, wait: Duration::ZERO });
    let mut seen = Vec::new();
    for _ in 0..400 {
        let (limit, ..) = gate.view();
        seen.push(limit);
        let mut held: Vec<Pass> = (0..limit).filter_map(|_| gate.try_enter(Priority::Interactive)).collect();
        let took = Duration::from_millis(100).mul_f32((limit as f32 / 20.0).max(1.0));
        held.iter_mut().for_each(|pass| pass.began(true, took));
        tokio::time::advance(took).await;
    }
    let most = *seen[300..].iter().max().unwrap();
    assert!((18..=40).contains(&most), "{seen:?}");
    // Half as many run now and then, to see what is usual.
    let usual = seen[300..].iter().filter(|limit| **limit >= 18).count();
    assert!(usual >= 80, "{seen:?}");
    // It refuses: fewer.
    for _ in 0..5 * WINDOW {
        gate.try_enter(Priority::Interactive).unwrap().overloaded();
    }
    assert!(gate.view().0 < most / 2);
}

/// An answer that takes a second.
async fn a_second(gate: &Arc<Gate>) {
    let mut held = gate.try_enter(Priority::Interactive).unwrap();
    held.began(true, Duration::from_millis(40));
    tokio::time::advance(Duration::from_secs(1)).await;
}

/// Whoever could not be called in time was told so when the time was over.
#[tokio::test(start_paused = true)]
async fn who_could_not_be_called_in_time_is_sent_away_at_once() {
    let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(3) });
    a_second(&gate).await;
    let _held = gate.try_enter(Priority::Interactive).unwrap();
    // A second each: the fourth is called in time, the fifth would not be.
    let ask = |name: &str| {
        let (gate, tenant) = (gate.clone(), tenant(name));
        Box::pin(async move { gate.enter(Priority::Interactive, &tenant, soon()).await.is_ok() })
    };
    let mut waiting: Vec<_> = (0..4).map(|_| ask("a")).collect();
    for asked in &mut waiting {
        assert!(futures_util::poll!(asked).is_pending());
    }
    assert_eq!(futures_util::poll!(ask("a")), std::task::Poll::Ready(false));
    assert!(futures_util::poll!(ask("b")).is_pending(), "one who takes turns with them would be called second");
    assert_eq!(gate.view(), (1, 1, 4));
}

/// A client's own time is shorter than anybody may wait: it is told at once, and no pressure comes of it.
#[tokio::test(start_paused = true)]
async fn who_has_less_time_than_it_takes_is_sent_away_at_once() {
    let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(60) });
    a_second(&gate).await;
    let _held = gate.try_enter(Priority::Interactive).unwrap();
    let who = tenant("a");
    let within = |ms| Box::pin(gate.enter(Priority::Interactive, &who, Instant::now() + Duration::from_millis(ms)));
    let mut patient = within(1_500);
    assert!(futures_util::poll!(&mut patient).is_pending());
    assert!(matches!(futures_util::poll!(within(500)), std::task::Poll::Ready(Err(_))), "a second each");
    assert!(patient.await.is_err());
    assert_eq!((gate.shed[Priority::Interactive as usize].get(), gate.view()), (0, (1, 1, 0)));
}

/// Clients that left early made it look as if passes were held for a moment only, and nobody was told in time that he waits in vain.
#[tokio::test(start_paused = true)]
async fn clients_that_leave_say_nothing_of_how_long_a_pass_is_held() {
    let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(60) });
    a_second(&gate).await;
    for _ in 0..100 {
        drop(gate.try_enter(Priority::Interactive).unwrap());
    }
    let _held = gate.try_enter(Priority::Interactive).unwrap();
    let within = |ms| {
        let (gate, who) = (gate.clone(), tenant("a"));
        Box::pin(async move { gate.enter(Priority::Interactive, &who, Instant::now() + Duration::from_millis(ms)).await.is_ok() })
    };
    let mut first = within(1_500);
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(futures_util::poll!(within(500)), std::task::Poll::Ready(false), "a second each");
}

/// A gate of one place, taken for an answer of a minute, after one that took as long.
async fn a_minute_each() -> (Arc<Gate>, Pass) {
    let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(5) });
    let mut held = gate.try_enter(Priority::Interactive).unwrap();
    held.began(true, Duration::from_millis(40));
    tokio::time::advance(Duration::from_secs(60)).await;
    drop(held);
    let held = gate.try_enter(Priority::Interactive).unwrap();
    (gate, held)
}

/// Answers of a minute left a batch no call that it could be sure of, so that it was sent away with nobody before it. One may wait.
#[tokio::test(start_paused = true)]
async fn the_first_of_a_batch_may_wait_for_a_long_answer() {
    let (gate, held) = a_minute_each().await;
    let who = tenant("a");
    let mut first = Box::pin(gate.enter(Priority::Batch, &who, soon()));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(gate.enter(Priority::Batch, &who, soon()));
    assert!(matches!(futures_util::poll!(&mut second), std::task::Poll::Ready(Err(_))));
    drop(held);
    assert!(first.await.is_ok());
}

/// Somebody of a batch always waited in vain while the others were told at once, which were more than one of a hundred refusals.
#[tokio::test(start_paused = true)]
async fn a_batch_waits_in_vain_only_now_and_then() {
    let (gate, _held) = a_minute_each().await;
    let who = tenant("a");
    let begun = Instant::now();
    let mut waited = 0;
    while begun.elapsed() < Duration::from_secs(120) {
        let asked = Instant::now();
        assert!(gate.enter(Priority::Batch, &who, soon()).await.is_err());
        waited += u32::from(asked.elapsed() > Duration::ZERO);
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert_eq!(waited, 8, "one in ten seconds, and its wait");
}

/// Places that were left free for people who come no more stayed empty until somebody's answer ended.
#[tokio::test(start_paused = true)]
async fn a_batch_gets_the_places_of_people_who_come_no_more() {
    let gate = gate(4, 100);
    let long = gate.try_enter(Priority::Interactive).unwrap();
    let beside: Vec<_> = (0..3).map(|_| gate.try_enter(Priority::Batch).unwrap()).collect();
    let who = tenant("a");
    for _ in 0..2 {
        // They have to wait, and give up.
        let mut person = Box::pin(gate.enter(Priority::Interactive, &who, soon()));
        assert!(futures_util::poll!(&mut person).is_pending());
    }
    drop(beside);
    let _running: Vec<_> = (0..1).map(|_| gate.try_enter(Priority::Batch).unwrap()).collect();
    assert!(gate.try_enter(Priority::Batch).is_none(), "two places are left free");
    let asked = Instant::now();
    let pass = gate.enter(Priority::Batch, &who, soon()).await;
    assert!(pass.is_ok() && asked.elapsed() <= ALONE, "{:?}", asked.elapsed());
    drop(long);
}

/// What became of requests: in how many milliseconds they were answered whole, or sent away.
#[derive(Default)]
struct Found {
    whole: RefCell<Vec<u128>>,
    shed: RefCell<Vec<u128>>,
}

impl Found {
    fn p99(&self) -> u128 {
        let mut whole = self.whole.borrow().clone();
        whole.sort_unstable();
        whole[whole.len() * 99 / 100]
    }
}

/// Asks for a minute, so many times a second in these lanes, before a pool of 20 places in which an answer begins after 40 ms and ends
/// 300 later: it bears 58 a second. What comes in the first twenty seconds is not counted.
#[allow(clippy::disallowed_methods, reason = "clients of a simulation, which waits for all of them")]
async fn load(gate: &Arc<Gate>, rates: [(Priority, f64); 2]) -> [Rc<Found>; 2] {
    let (pool, begun, tasks) = (Rc::new(Semaphore::new(20)), Instant::now(), LocalSet::new());
    let found = rates.map(|(lane, rate)| {
        let (gate, pool, all) = (gate.clone(), pool.clone(), Rc::<Found>::default());
        let found = all.clone();
        tasks.spawn_local(async move {
            while rate > 0.0 && begun.elapsed() < Duration::from_secs(60) {
                tokio::time::sleep(Duration::from_secs_f64(-fastrand::f64().max(1e-9).ln() / rate)).await;
                let (gate, pool, found, asked) = (gate.clone(), pool.clone(), found.clone(), Instant::now());
                tokio::task::spawn_local(async move {
                    let entered = gate.enter(lane, &tenant("a"), asked + Duration::from_secs(60)).await;
                    let list = if entered.is_ok() { &found.whole } else { &found.shed };
                    if let Ok(mut pass) = entered {
                        let sent = Instant::now();
                        let _place = pool.acquire().await.unwrap();
                        tokio::time::sleep(Duration::from_millis(40)).await;
                        pass.began(true, sent.elapsed());
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                    if asked > begun + Duration::from_secs(20) {
                        list.borrow_mut().push(asked.elapsed().as_millis());
                    }
                });
            }
        });
        all
    });
    tasks.await;
    found
}

/// Twice what a pool bears made everybody wait for as long as anybody may: answers took five seconds more, and so did refusals.
#[tokio::test(start_paused = true)]
async fn at_twice_what_the_pool_bears_the_excess_is_sent_away_and_the_others_are_as_before() {
    const SEEDS: u64 = 5;
    let settings = Settings { start: 32, min: 4, max: 1024, queue: 256, wait: Duration::from_secs(5) };
    let interactive = |rate| (Priority::Interactive, rate);
    let batch = |rate| (Priority::Batch, rate);
    // How many times as long it took, alone, and with a batch beside as many requests as before.
    let (mut alone, mut beside) = (0.0, 0.0);
    for seed in 0..SEEDS {
        fastrand::seed(seed);
        let gate = Gate::new(settings);
        let [usual, _] = load(&gate, [interactive(47.0), batch(0.0)]).await;
        assert_eq!(usual.shed.borrow().len(), 0);
        let [twice, _] = load(&gate, [interactive(117.0), batch(0.0)]).await;
        assert!(twice.whole.borrow().len() > 40 * 55, "{} are answered", twice.whole.borrow().len());
        assert!(twice.shed.borrow().iter().all(|waited| *waited == 0), "{:?}", twice.shed);
        alone += twice.p99() as f32 / usual.p99() as f32;

        let gate = Gate::new(settings);
        let [usual, _] = load(&gate, [interactive(29.0), batch(18.0)]).await;
        let [people, reports] = load(&gate, [interactive(29.0), batch(88.0)]).await;
        assert_eq!(people.shed.borrow().len(), 0);
        assert!(reports.whole.borrow().len() > 40 * 25, "what is left is the batch's: {}", reports.whole.borrow().len());
        assert!(reports.shed.borrow().iter().all(|waited| *waited == 0), "{:?}", reports.shed);
        beside += people.p99() as f32 / usual.p99() as f32;
    }
    assert!(alone < 1.3 * SEEDS as f32 && beside < 1.3 * SEEDS as f32, "{alone} {beside}");
}

/// A batch that could hardly be called in time, between people, is sent away when it comes and not when the time is over.
#[tokio::test(start_paused = true)]
async fn a_batch_that_has_no_chance_is_told_so_at_once() {
    let (mut shed, mut late) = (0, 0);
    for seed in 0..5 {
        fastrand::seed(seed);
        let settings = Settings { start: 32, min: 4, max: 1024, queue: 256, wait: Duration::from_millis(250) };
        let [_, reports] = load(&Gate::new(settings), [(Priority::Interactive, 29.0), (Priority::Batch, 88.0)]).await;
        assert!(reports.whole.borrow().len() > 40 * 25, "what is left is the batch's");
        shed += reports.shed.borrow().len();
        late += reports.shed.borrow().iter().filter(|waited| **waited > 0).count();
    }
    assert!(late * 100 <= shed, "{late} of {shed} waited in vain");
}

/// Some answers are short and some are long, and some begin later than others because their prompts are longer: that is no overload.
#[tokio::test(start_paused = true)]
async fn a_mixture_is_no_overload() {
    let gate = Gate::new(Settings { start: 32, min: 1, max: 500, queue: 0, wait: Duration::ZERO });
    fastrand::seed(7);
    for _ in 0..300 {
        let (limit, ..) = gate.view();
        let mut held: Vec<Pass> = (0..limit).filter_map(|_| gate.try_enter(Priority::Interactive)).collect();
        for pass in &mut held {
            match fastrand::u8(..4) {
                0 => pass.began(false, Duration::from_millis(50)),
                1 => pass.began(false, Duration::from_secs(20)),
                _ => pass.began(true, Duration::from_millis(fastrand::u64(50..500))),
            }
        }
    }
    assert!(gate.view().0 >= 32, "{:?}", gate.view());
}

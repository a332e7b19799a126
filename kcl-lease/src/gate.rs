//! A gate in front of the tasks of one simulated process, so that a whole process can be stopped or killed inside one
//! thread.
//!
//! A *paused* process is not polled (as under SIGSTOP or in a long collection of garbage): its timers run on, and it
//! wakes up into the future. A *killed* one is dropped (as under SIGKILL). What it sent before is not its own any more:
//! requests on their way are tasks of whoever answers them and arrive all the same.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The gate of one simulated process. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    state: State,
    tasks: Vec<Weak<AtomicWaker>>,
    /// Tasks are looked through for ended ones when there are twice as many as last time.
    prune_at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Open,
    Paused,
    Killed,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gate").field(&self.lock().state).finish()
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// No task behind the gate runs until [`resume`](Self::resume).
    pub fn pause(&self) {
        let mut shared = self.lock();
        if shared.state == State::Open {
            shared.state = State::Paused;
        }
    }

    /// Lets the tasks run again, unless they were killed.
    pub fn resume(&self) {
        self.change(State::Paused, State::Open);
    }

    /// Drops every task behind the gate, now or as soon as the runtime looks at it, and every later one.
    pub fn kill(&self) {
        self.change(State::Open, State::Killed);
        self.change(State::Paused, State::Killed);
    }

    /// Whether the process was killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.lock().state == State::Killed
    }

    /// Whether the process is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().state == State::Paused
    }

    /// Runs `task` behind the gate; `None` once the process is killed.
    pub fn guard<F: Future>(&self, task: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        let waker = Arc::new(AtomicWaker::new());
        self.lock().add(&waker);
        Gated {
            gate: self.clone(),
            waker,
            task: Some(Box::pin(task)),
        }
    }

    fn change(&self, from: State, to: State) {
        let woken = {
            let mut shared = self.lock();
            if shared.state != from {
                return;
            }
            shared.state = to;
            shared.tasks.clone()
        };
        woken
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|w| w.wake());
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn add(&mut self, task: &Arc<AtomicWaker>) {
        if self.tasks.len() >= self.prune_at {
            self.tasks.retain(|task| task.strong_count() > 0);
            self.prune_at = self.tasks.len() * 2 + 16;
        }
        self.tasks.push(Arc::downgrade(task));
    }
}

struct Gated<F> {
    gate: Gate,
    waker: Arc<AtomicWaker>,
    task: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Gated<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.waker.register(context.waker());
        let state = self.gate.lock().state;
        match (state, &mut self.task) {
            (State::Paused, _) => Poll::Pending,
            (State::Open, Some(task)) => task.as_mut().poll(context).map(Some),
            (State::Killed, _) | (_, None) => {
                self.task = None;
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::runtime::Runtime;

    struct Ticks {
        count: Arc<AtomicU32>,
        /// Dropped with the task.
        alive: Weak<()>,
    }

    fn ticking(gate: &Gate) -> Ticks {
        let runtime = Runtime::virtual_time(1).behind(gate.clone());
        let (count, life) = (Arc::new(AtomicU32::new(0)), Arc::new(()));
        let ticks = Ticks {
            count: Arc::clone(&count),
            alive: Arc::downgrade(&life),
        };
        let inner = runtime.clone();
        let task = async move {
            let _life = life;
            // A task within a task is behind the same gate.
            let _ticker = inner.spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            std::future::pending::<()>().await;
        };
        runtime.spawn_isolated("ticking", task).unwrap();
        ticks
    }

    async fn seconds(n: u64) {
        tokio::time::sleep(Duration::from_millis(n * 1_000 + 500)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_process_stands_still_and_wakes_into_the_future() {
        let gate = Gate::new();
        let ticks = ticking(&gate);
        seconds(3).await;
        assert_eq!(ticks.count.load(Ordering::Relaxed), 3);
        gate.pause();
        assert!(gate.is_paused());
        seconds(10).await;
        assert_eq!(ticks.count.load(Ordering::Relaxed), 3);
        gate.resume();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(
            ticks.count.load(Ordering::Relaxed),
            4,
            "the timer had run on"
        );
        seconds(2).await;
        assert_eq!(ticks.count.load(Ordering::Relaxed), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_is_dropped_even_while_it_waits_or_is_paused() {
        for paused in [false, true] {
            let gate = Gate::new();
            let ticks = ticking(&gate);
            seconds(2).await;
            if paused {
                gate.pause();
            }
            gate.kill();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(ticks.alive.upgrade().is_none(), "the task is gone");
            gate.resume();
            seconds(5).await;
            assert_eq!(ticks.count.load(Ordering::Relaxed), 2);
            assert!(gate.is_killed());
            assert_eq!(gate.guard(async { 1 }).await, None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ended_tasks_are_forgotten() {
        let gate = Gate::new();
        for _ in 0..1_000 {
            assert_eq!(gate.guard(async {}).await, Some(()));
        }
        assert!(gate.lock().tasks.len() < 100);
    }
}

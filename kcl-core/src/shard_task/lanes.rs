//! Several lanes of one shard: each works by itself, and what is read is shared out among them by partition key.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kcl_lease::runtime::Runtime;
use tokio::sync::mpsc;

use super::deliver::Work;
use super::*;

/// Lanes that run by themselves.
#[derive(Default)]
pub(super) struct Lanes {
    queues: Vec<Queue>,
    tasks: FuturesUnordered<AbortOnDropHandle<(Lane, Flow<()>)>>,
    /// The lanes that have ended.
    over: Vec<Lane>,
}

struct Queue {
    progress: LaneProgress,
    jobs: mpsc::UnboundedSender<Job>,
}

/// Records of one answer for one lane.
struct Job {
    delivery: DeliveryId,
    records: Selection,
    behind: Option<Duration>,
    /// What is complete, for this lane, once the last record is.
    end: Position,
}

impl Lanes {
    fn start(&mut self, lanes: Vec<Lane>, runtime: &Runtime) {
        for lane in lanes {
            // The records in the queues of all lanes are counted, and bounded.
            let (jobs, receiver) = mpsc::unbounded_channel();
            let progress = lane.progress.clone();
            self.queues.push(Queue { progress, jobs });
            self.tasks.push(runtime.spawn(lane.run(receiver)));
        }
    }

    /// Shares records out. Those of one key go to the same lane, in order.
    fn hand_out(&self, records: &Selection, behind: Option<Duration>, end: &Position) {
        let lanes = self.queues.len();
        let spread = match mutant::is(Mutant::KeysSpread) {
            true => usize::from(end.sequence_number.as_str().bytes().last().unwrap_or(0)),
            false => 0,
        };
        let parts = records.split(lanes, |key| (lane_of(key, lanes) + spread) % lanes);
        for (queue, records) in self.queues.iter().zip(parts) {
            if let Some(delivery) = queue.progress.queue(&records, end) {
                let end = end.clone();
                // A lane that has ended takes nothing: the shard stops.
                let _ended = queue.jobs.send(Job {
                    delivery,
                    records,
                    behind,
                    end,
                });
            }
        }
    }

    /// Waits until a lane ends, which is for a reason.
    ///
    /// # Cancellation
    /// Safe to drop at any time.
    async fn stopped(&mut self) -> Stopped {
        match self.ended().await {
            Some(ControlFlow::Break(stopped)) => stopped,
            _ => Stopped::Failed("a lane that ended too early"),
        }
    }

    /// Lets the lanes end when they have done what waits for them.
    fn close(&mut self) {
        self.queues.clear();
    }

    /// Waits until the next lane has ended. `None` when all have.
    async fn ended(&mut self) -> Option<Flow<()>> {
        Some(match self.tasks.next().await? {
            Ok((lane, flow)) => {
                self.over.push(lane);
                flow
            }
            Err(_) => ControlFlow::Break(Stopped::Failed("a lane")),
        })
    }
}

/// The same lane for the same key, whatever range of hash keys the shard has.
fn lane_of(key: &str, lanes: usize) -> usize {
    (kcl_aggregation::hash_key(key) % lanes as u128) as usize
}

impl ShardTask {
    /// Delivers the whole shard, to all lanes at the same time. Returns its children.
    pub(super) async fn deliver_to_lanes(
        &mut self,
        mut deliveries: Deliveries,
    ) -> Flow<Vec<ListedShard>> {
        let lanes = std::mem::take(&mut self.lanes);
        self.running.start(lanes, &self.context.runtime);
        loop {
            self.show_tip();
            self.end_of_replay()?;
            let next = tokio::select! {
                biased;
                stopped = stopped(&self.grant) => return ControlFlow::Break(stopped),
                stopped = self.running.stopped() => return ControlFlow::Break(stopped),
                next = deliveries.next() => next,
                () = self.progress.lightened() => continue,
            };
            match next {
                Next::Delivery(delivery) => {
                    self.before(&delivery)?;
                    self.hand_out(&delivery).await?;
                    if let Some(end) = delivery.end {
                        self.lanes_done().await?;
                        return ControlFlow::Continue(end.children);
                    }
                }
                Next::AtTip => self.reached_tip(),
                Next::Again => deliveries = self.read_on(),
                Next::Over(end) => {
                    check_over(&end)?;
                    self.lanes_done().await?;
                    return self.end_without_rest().await;
                }
            }
        }
    }

    /// Hands out one answer, as fast as there is room.
    async fn hand_out(&mut self, delivery: &Delivery) -> Flow<()> {
        let before = self.progress.handed_out();
        let end = delivery.end_position();
        let Some(end) = end.filter(|end| Checkpoint::At(end.clone()) > before) else {
            return ControlFlow::Continue(());
        };
        let mut rest = Selection::new(Arc::clone(&delivery.batch), delivery.after(&before));
        loop {
            let room = match rest.is_empty() {
                true => 0,
                false => self.room().await?,
            };
            let part = rest.slice(0..room);
            rest = rest.slice(room..rest.len());
            let part_end = rest.before(0).unwrap_or_else(|| end.clone());
            self.progress.hand_out(&part_end);
            self.running.hand_out(&part, delivery.behind, &part_end);
            if rest.is_empty() {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Waits until more records may be in flight. Returns how many.
    async fn room(&mut self) -> Flow<usize> {
        loop {
            let most = self.context.config.max_in_flight;
            match most.saturating_sub(self.progress.in_flight()) {
                0 => {}
                room => return ControlFlow::Continue(room),
            }
            tokio::select! {
                biased;
                stopped = stopped(&self.grant) => return ControlFlow::Break(stopped),
                stopped = self.running.stopped() => return ControlFlow::Break(stopped),
                () = self.progress.lightened() => {}
            }
        }
    }

    /// Waits until all lanes have completed everything.
    async fn lanes_done(&mut self) -> Flow<()> {
        self.running.close();
        while let Some(outcome) = self.running.ended().await {
            outcome?;
        }
        self.lanes.append(&mut self.running.over);
        ControlFlow::Continue(())
    }

    /// Waits until no lane runs by itself any more: their calls that run come to their end, and no other begins.
    pub(super) async fn gather(&mut self) -> Flow<()> {
        self.halt.cancel();
        self.running.close();
        let mut gathered = ControlFlow::Continue(());
        while let Some(outcome) = self.running.ended().await {
            if let ControlFlow::Break(Stopped::Failed(_)) = outcome {
                gathered = outcome;
            }
        }
        self.lanes.append(&mut self.running.over);
        gathered
    }
}

impl Lane {
    /// Works on one job after the other, until there are no more and nothing is deferred, or the lane is to stop.
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) -> (Self, Flow<()>) {
        let flow = self.work_on(&mut jobs).await;
        (self, flow)
    }

    async fn work_on(&mut self, jobs: &mut mpsc::UnboundedReceiver<Job>) -> Flow<()> {
        loop {
            self.serve_deferred().await?;
            let job = tokio::select! {
                biased;
                stopped = self.stopped() => return ControlFlow::Break(stopped),
                job = jobs.recv() => job,
                () = self.progress.deferred_changed() => continue,
            };
            let Some(job) = job else {
                return self.deferred_done().await;
            };
            self.progress.begin(job.records.len());
            let bounds = self.bounds();
            let work = Work::new(job.delivery, job.records, job.behind, job.end, bounds);
            self.work_off(work).await?;
        }
    }
}

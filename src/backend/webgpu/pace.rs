//! The pace of prefill, from how long its batches take: batches short enough for an abort to be noticed, submissions short
//! enough for a page that shares the GPU to stay responsive, and no more of them queued than keeps the GPU busy.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use super::device::Gpu;
use crate::Result;

/// What a batch, and one of its submissions, should take.
const BATCH_MS: f64 = 400.0;
const SUBMISSION_MS: f64 = 25.0;
/// Tokens of the first batch, when nothing is known; and the fewest, which take less time each together than alone.
const FIRST: usize = 32;
const FEWEST: usize = 16;
/// Batches begin at most so many times larger than the last one.
const GROWTH: usize = 4;

pub struct Pace {
    most: usize,
    /// Of the next batch.
    tokens: usize,
    /// Of the last full batch.
    ms_per_token: Option<f64>,
    running: VecDeque<Running>,
    last_done: f64,
}

struct Running {
    tokens: usize,
    submitted: f64,
    #[cfg(not(target_arch = "wasm32"))]
    index: wgpu::SubmissionIndex,
    done: Arc<Mutex<Done>>,
}

#[derive(Default)]
struct Done {
    at: Option<f64>,
    waker: Option<Waker>,
}

impl Pace {
    pub fn new(most: usize) -> Pace {
        Pace { most, tokens: FIRST.min(most), ms_per_token: None, running: VecDeque::new(), last_done: 0.0 }
    }

    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Batches that may be queued while the next is encoded: none where they are, or may be, slow, for an abort waits for
    /// them.
    fn ahead(&self) -> usize {
        usize::from(self.ms_per_token.is_some_and(|ms| ms * self.tokens as f64 <= BATCH_MS))
    }

    /// How many submissions a batch should be cut into; about one a layer while nothing is known.
    pub fn submissions(&self, tokens: usize, layers: usize) -> usize {
        let needed = |ms: f64| (ms * tokens as f64 / SUBMISSION_MS).ceil() as usize;
        self.ms_per_token.map_or(layers, needed).max(1)
    }

    /// A batch was submitted, `index` being its last submission.
    pub fn submitted(&mut self, gpu: &Gpu, tokens: usize, index: wgpu::SubmissionIndex) {
        let done = Arc::new(Mutex::new(Done::default()));
        let (callback, clock) = (done.clone(), gpu.clock());
        gpu.queue.on_submitted_work_done(move || {
            let mut done = callback.lock().expect("nothing panics while it is held");
            done.at = Some(clock());
            if let Some(waker) = done.waker.take() {
                waker.wake();
            }
        });
        #[cfg(target_arch = "wasm32")]
        let _ = index;
        self.running.push_back(Running {
            tokens,
            submitted: clock(),
            #[cfg(not(target_arch = "wasm32"))]
            index,
            done,
        });
    }

    /// Waits until so few batches are under way. Errors: whatever failed on the device.
    pub async fn catch_up(&mut self, gpu: &Gpu) -> Result<()> {
        while self.running.len() > self.ahead() {
            let Some(first) = self.running.pop_front() else { break };
            #[cfg(not(target_arch = "wasm32"))]
            let _ = gpu.device.poll(wgpu::PollType::Wait { submission_index: Some(first.index), timeout: None });
            let at = poll_fn(|context| {
                let mut done = first.done.lock().expect("nothing panics while it is held");
                done.waker = Some(context.waker().clone());
                done.at.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            gpu.check()?;
            let ms = at - self.last_done.max(first.submitted);
            self.last_done = at;
            self.learn(first.tokens, ms.max(0.1));
        }
        Ok(())
    }

    /// A batch smaller than usual says little of larger ones, unless it was slow.
    fn learn(&mut self, tokens: usize, ms: f64) {
        if tokens < self.tokens && ms < BATCH_MS {
            return;
        }
        let ms_per_token = ms / tokens as f64;
        self.ms_per_token = Some(ms_per_token);
        let wanted = ((BATCH_MS / ms_per_token) as usize).min(GROWTH * tokens);
        // Whole tiles, where there are any.
        let whole = if wanted >= 32 { wanted / 32 * 32 } else { wanted };
        self.tokens = whole.max(FEWEST).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_time_they_take() {
        let mut pace = Pace::new(512);
        assert_eq!((pace.tokens(), pace.submissions(32, 30), pace.ahead()), (32, 30, 0));
        pace.learn(32, 5.0);
        assert_eq!((pace.tokens(), pace.submissions(128, 30), pace.ahead()), (128, 1, 1));
        pace.learn(128, 20.0);
        assert_eq!(pace.tokens(), 512);
        // The rest of a prompt.
        pace.learn(3, 20.0);
        assert_eq!(pace.tokens(), 512);
        pace.learn(512, 1600.0);
        assert_eq!((pace.tokens(), pace.submissions(128, 30)), (128, 16));
        pace.learn(128, 40_000.0);
        assert_eq!((pace.tokens(), pace.ahead()), (FEWEST, 0));
        assert_eq!(Pace::new(1).tokens(), 1);
    }
}

//! Worker threads. A job is a number of independent pieces. Each thread has a share of them, a run of neighbours, so that it
//! reads on in memory; one that is through takes from the ends of the others' shares. The caller does so too: a thread that
//! sleeps or is not scheduled costs nothing but its help. Who computes a piece makes no difference to it: results are the
//! same bits with any number of threads.
//!
//! Natively the pool starts its threads; in a browser the page does (`pkg/src/pool-host.ts`), and they come in by
//! [`Shared::help`].

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
#[cfg(not(target_arch = "wasm32"))]
use std::thread;
use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
use crate::{Error, Result};

/// The most threads that may be asked for.
pub const MOST_THREADS: usize = 64;

/// One for each core, at most eight: beyond that memory is what a token waits for.
#[cfg(not(target_arch = "wasm32"))]
pub fn default_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

/// Pieces a thread, at least: more even out what is uneven, each costs an atomic operation.
const PIECES: usize = 4;

/// No job has more.
const MOST_PIECES: usize = MOST_THREADS * PIECES;
const _: () = assert!(MOST_PIECES < 1 << 16);

/// Multiply-adds of the smallest piece, some microseconds: smaller ones would cost more than they bring.
const GRAIN: usize = 1 << 15;

/// Of the largest, as long as there are no more than may be, some twenty microseconds: so long the others wait for the last.
const LUMP: usize = 1 << 19;

/// How often a thread looks before it lies down: longer than from one job to the next of a token, and not much longer,
/// because others may want the core.
const SPINS: usize = if cfg!(target_arch = "wasm32") { 20_000 } else { 2_000 };

/// How soon the caller notices that a thread is gone.
const NOTICE: Duration = Duration::from_millis(20);

pub struct Pool {
    /// None: one thread.
    shared: Option<Arc<Shared>>,
    threads: usize,
    grain: usize,
    #[cfg(not(target_arch = "wasm32"))]
    helpers: Vec<thread::JoinHandle<()>>,
}

/// The address of a job, as the compiler sees it.
type Work<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Two lines of the cache, which are fetched together: what one thread writes does not slow another's reading beside it.
#[derive(Default)]
#[repr(C, align(128))]
struct Apart<T>(T);

/// What the threads have in common. JavaScript knows the first three.
#[derive(Default)]
#[repr(C, align(128))]
pub struct Shared {
    /// Number of the job; sleepers wait for another one.
    job: AtomicU32,
    /// Not 0: the threads go. The page writes that, and wakes them, before it terminates their workers: one that sleeps in
    /// the wasm would take a browser seconds to end.
    ended: AtomicU32,
    last_words: LastWords,
    /// Of the job: the address of its `Work`, which stays while a piece is taken and not done, and its shares.
    of_job: Apart<(AtomicUsize, AtomicUsize)>,
    shares: Shares,
    /// Pieces done, and whether the caller sleeps until all are.
    done: Apart<(AtomicUsize, AtomicBool)>,
    sleepers: Apart<AtomicU32>,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    bed: Mutex<()>,
    #[cfg(not(target_arch = "wasm32"))]
    job_is_there: Condvar,
    job_is_done: Condvar,
}

/// Of each thread: the number of the job, the first piece that is left and the one after the last (32, 16 and 16 bits). What
/// is taken of it is taken from this job: where it is another's, the exchange fails.
struct Shares([Apart<AtomicU64>; MOST_THREADS]);

impl Default for Shares {
    fn default() -> Self {
        Shares(std::array::from_fn(|_| Apart::default()))
    }
}

impl Shares {
    fn give(&self, thread: usize, job: u32, pieces: Range<usize>) {
        let share = u64::from(job) << 32 | (pieces.start as u64) << 16 | pieces.end as u64;
        self.0[thread].0.store(share, SeqCst);
    }

    /// A piece of the share of `thread`: its first one for itself, else its last.
    fn take(&self, thread: usize, job: u32, own: bool) -> Option<usize> {
        let share = &self.0[thread].0;
        let mut now = share.load(Acquire);
        loop {
            let (of, first, end) = ((now >> 32) as u32, now as u32 >> 16, now as u32 & 0xffff);
            if of != job || first == end {
                return None;
            }
            let (piece, then) = if own { (first, now + (1 << 16)) } else { (end - 1, now - 1) };
            match share.compare_exchange_weak(now, then, SeqCst, Acquire) {
                Ok(_) => return Some(piece as usize),
                Err(other) => now = other,
            }
        }
    }
}

/// Of a thread that will never finish its piece. JavaScript writes them, after a trap: first the bytes, UTF-8, then their
/// number, which is 0 as long as all is well.
#[repr(C)]
pub struct LastWords {
    length: AtomicU32,
    bytes: [AtomicU8; LastWords::MOST],
}

impl LastWords {
    pub const MOST: usize = 252;

    fn read(&self) -> Option<String> {
        let length = (self.length.load(SeqCst) as usize).min(Self::MOST);
        let bytes: Vec<u8> = self.bytes[..length].iter().map(|byte| byte.load(Relaxed)).collect();
        (length > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Default for LastWords {
    fn default() -> Self {
        LastWords { length: AtomicU32::new(0), bytes: [const { AtomicU8::new(0) }; Self::MOST] }
    }
}

impl Pool {
    /// The caller alone.
    pub const fn single() -> Pool {
        Pool {
            shared: None,
            threads: 1,
            grain: GRAIN,
            #[cfg(not(target_arch = "wasm32"))]
            helpers: Vec::new(),
        }
    }

    /// `threads` in all, the caller being one of them. Errors: [`Error::BadRequest`] where there are too many or none.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(threads: usize) -> Result<Pool> {
        if !(1..=MOST_THREADS).contains(&threads) {
            return Err(Error::BadRequest(format!("threads are 1 to {MOST_THREADS}, not {threads}")));
        }
        let mut pool = Pool::single();
        if threads > 1 {
            let shared = Arc::new(Shared::default());
            pool.shared = Some(shared.clone());
            for thread in 1..threads {
                let shared = shared.clone();
                let started = thread::Builder::new().name("kinglet".into()).spawn(move || shared.help(thread));
                let started = started.map_err(|error| {
                    Error::BadRequest(format!("no {thread} threads can be started: {error}; ask for fewer"))
                })?;
                pool.helpers.push(started);
                pool.threads += 1;
            }
        }
        Ok(pool)
    }

    /// Of threads that were started elsewhere: `threads` in all, the caller being one of them.
    pub fn of(shared: Arc<Shared>, threads: usize) -> Pool {
        let mut pool = Pool::single();
        (pool.shared, pool.threads) = (Some(shared), threads);
        pool
    }

    /// The same threads, for whoever computes when this one does not; they end with this one, and then one is left.
    pub fn share(&self) -> Pool {
        let mut pool = Pool::single();
        (pool.shared, pool.threads, pool.grain) = (self.shared.clone(), self.threads, self.grain);
        pool
    }

    /// Divides the smallest work too, for tests.
    pub fn eager(mut self) -> Pool {
        self.grain = 0;
        self
    }

    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work(units, thread)` until all of `0..units` were given out, in whatever order and to whichever threads;
    /// `thread` is below [`Pool::threads`]. `cost`: multiply-adds of a unit, roughly.
    ///
    /// Panics where `work` does.
    pub fn divide(&mut self, units: usize, cost: usize, work: impl Fn(Range<usize>, usize) + Sync) {
        let cost = cost.max(1);
        let wanted = (units.saturating_mul(cost) / LUMP).clamp(self.threads * PIECES, MOST_PIECES);
        let size = units.div_ceil(wanted).max(self.grain.div_ceil(cost)).max(1);
        let pieces = units.div_ceil(size);
        match &self.shared {
            Some(shared) if pieces > 1 && self.threads > 1 => {
                shared.run(self.threads, pieces, &|piece, thread| {
                    work(piece * size..units.min((piece + 1) * size), thread)
                });
            }
            _ => work(0..units, 0),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take().filter(|_| !self.helpers.is_empty()) {
            shared.ended.store(1, SeqCst);
            shared.wake_helpers();
        }
        for helper in self.helpers.drain(..) {
            helper.join().expect("its panics are caught");
        }
    }
}

impl Shared {
    /// What a thread does until the pool ends.
    pub fn help(&self, thread: usize) {
        let mut seen = 0;
        while let Some(job) = self.next_job(seen) {
            seen = job;
            self.take_pieces(job, thread);
        }
    }

    fn run(&self, threads: usize, pieces: usize, work: Work) {
        let job = self.job.load(Relaxed).wrapping_add(1);
        let (address, shares) = &self.of_job.0;
        address.store(&raw const work as usize, Relaxed);
        shares.store(threads, Relaxed);
        self.done.0.0.store(0, Relaxed);
        for thread in 0..threads {
            self.shares.give(thread, job, thread * pieces / threads..(thread + 1) * pieces / threads);
        }
        self.job.store(job, SeqCst);
        if self.sleepers.0.load(SeqCst) > 0 {
            self.wake_helpers();
        }
        self.take_pieces(job, 0);
        self.await_others(pieces);
        if let Some(panic) = lock(&self.panic).take() {
            std::panic::resume_unwind(panic);
        }
    }

    /// Takes and does pieces of a job while there are any.
    fn take_pieces(&self, job: u32, thread: usize) {
        let (address, shares) = &self.of_job.0;
        let shares = shares.load(Relaxed);
        let mut count = 0;
        for i in 0..shares {
            let of = (thread + i) % shares;
            while let Some(piece) = self.shares.take(of, job, i == 0) {
                // SAFETY: `run` stored the address, and does not return before this piece is done.
                let work = unsafe { *(address.load(Relaxed) as *const Work) };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(piece, thread))) {
                    *lock(&self.panic) = Some(panic);
                }
                count += 1;
            }
        }
        if count > 0 {
            let (done, caller_sleeps) = &self.done.0;
            done.fetch_add(count, SeqCst);
            if caller_sleeps.load(SeqCst) {
                // It holds the lock until it sleeps.
                drop(lock(&self.bed));
                self.job_is_done.notify_all();
            }
        }
    }

    fn await_others(&self, pieces: usize) {
        let (done, caller_sleeps) = &self.done.0;
        let is_done = || done.load(SeqCst) == pieces;
        if spin_until(is_done) {
            return;
        }
        let mut bed = lock(&self.bed);
        caller_sleeps.store(true, SeqCst);
        while !is_done() {
            if let Some(words) = self.last_words.read() {
                panic!("a thread of the pool crashed: {words}");
            }
            bed = self.job_is_done.wait_timeout(bed, NOTICE).unwrap_or_else(|e| e.into_inner()).0;
        }
        caller_sleeps.store(false, SeqCst);
    }

    /// The number of a job after `seen`; None at the end.
    fn next_job(&self, seen: u32) -> Option<u32> {
        let is_there = || self.job.load(SeqCst) != seen || self.ended.load(SeqCst) != 0;
        if !spin_until(is_there) {
            self.sleepers.0.fetch_add(1, SeqCst);
            self.sleep_until(is_there, seen);
            self.sleepers.0.fetch_sub(1, SeqCst);
        }
        (self.ended.load(SeqCst) == 0).then(|| self.job.load(SeqCst))
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Shared {
    fn sleep_until(&self, is_there: impl Fn() -> bool, _seen: u32) {
        let mut bed = lock(&self.bed);
        while !is_there() {
            bed = self.job_is_there.wait(bed).unwrap_or_else(|e| e.into_inner());
        }
    }

    /// One that is about to lie down holds the lock until it sleeps.
    fn wake_helpers(&self) {
        drop(lock(&self.bed));
        self.job_is_there.notify_all();
    }
}

/// Unlike a condition variable's, this word is one that JavaScript can wake sleepers of.
#[cfg(target_arch = "wasm32")]
impl Shared {
    #[cfg(target_feature = "atomics")]
    fn sleep_until(&self, is_there: impl Fn() -> bool, seen: u32) {
        while !is_there() {
            // SAFETY: an aligned word, only used by atomic operations.
            unsafe { core::arch::wasm32::memory_atomic_wait32(self.job.as_ptr().cast(), seen as i32, -1) };
        }
    }

    #[cfg(target_feature = "atomics")]
    fn wake_helpers(&self) {
        // SAFETY: as above.
        unsafe { core::arch::wasm32::memory_atomic_notify(self.job.as_ptr().cast(), u32::MAX) };
    }

    // Memory that nobody shares has no sleepers.
    #[cfg(not(target_feature = "atomics"))]
    fn sleep_until(&self, is_there: impl Fn() -> bool, _seen: u32) {
        assert!(is_there());
    }

    #[cfg(not(target_feature = "atomics"))]
    fn wake_helpers(&self) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn spin_until(is_there: impl Fn() -> bool) -> bool {
    (0..SPINS).any(|_| {
        std::hint::spin_loop();
        is_there()
    })
}

/// A slice that several threads write at the same time, each its own part.
#[derive(Clone, Copy)]
pub struct Parts<'a, T>(*mut T, usize, PhantomData<&'a mut [T]>);

// SAFETY: whoever calls `part` sees to it that no two threads have the same elements.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn of(slice: &'a mut [T]) -> Parts<'a, T> {
        Parts(slice.as_mut_ptr(), slice.len(), PhantomData)
    }

    /// # Safety
    /// Nobody else has any of these elements while the result lives.
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.1);
        unsafe { std::slice::from_raw_parts_mut(self.0.add(range.start), range.len()) }
    }
}

impl Parts<'_, u8> {
    /// # Safety
    /// Nobody else has these bytes meanwhile.
    #[inline(always)]
    pub unsafe fn put<const N: usize>(&self, at: usize, bytes: [u8; N]) {
        assert!(at <= self.1 && N <= self.1 - at);
        unsafe { self.0.add(at).cast::<[u8; N]>().write(bytes) };
    }
}

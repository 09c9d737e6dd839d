use std::hint::spin_loop;
use std::mem::transmute;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use ossicle_core::parallel::Parallel;

/// A pool of threads that wait for jobs: spinning at first, since the next job of a token usually follows within
/// microseconds, then asleep. A job must not run another on the same pool.
pub struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Jobs run one at a time.
    running: Mutex<()>,
}

struct Shared {
    /// Counts the jobs; a change is the call to work.
    generation: AtomicUsize,
    job: Mutex<Option<&'static (dyn Fn() + Sync)>>,
    wake: Condvar,
    /// Threads still at the present job.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

/// How often a waiting thread looks before it sleeps or yields: about a tenth of a millisecond, where a pause takes 140
/// cycles.
const SPINS: usize = 2_000;

impl Threads {
    /// A pool that works with `threads` threads in all: the caller's, and `threads - 1` of its own.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            generation: AtomicUsize::new(0),
            job: Mutex::new(None),
            wake: Condvar::new(),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("ossicle-{number}")).spawn(move || shared.work())
        };
        // With fewer threads than asked for, all works, only slower.
        let handles = (1..threads).map_while(|number| spawn(number).ok()).collect();
        Self { shared, handles, running: Mutex::new(()) }
    }

    /// As many threads as the process may use at once.
    pub fn available() -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }
}

impl Parallel for Threads {
    fn workers(&self) -> usize {
        self.handles.len()
    }

    fn run(&self, job: &(dyn Fn() + Sync)) {
        if self.handles.is_empty() {
            return job();
        }
        let _one = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.busy.store(self.handles.len(), Ordering::Relaxed);
        shared.panicked.store(false, Ordering::Relaxed);
        {
            let mut slot = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: only the lifetime changes. The pool's threads call the job only between here and the end of `wait`,
            // which the guard below runs also if the job panics on this thread.
            *slot = Some(unsafe { transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(job) });
            shared.generation.fetch_add(1, Ordering::Release);
            shared.wake.notify_all();
        }
        struct Wait<'a>(&'a Shared);
        impl Drop for Wait<'_> {
            fn drop(&mut self) {
                let mut spins = 0;
                while self.0.busy.load(Ordering::Acquire) != 0 {
                    spins += 1;
                    if spins < SPINS { spin_loop() } else { thread::yield_now() }
                }
                // The job is gone with its caller.
                *self.0.job.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        let wait = Wait(shared);
        job();
        drop(wait);
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a job panicked on a thread of the pool");
    }
}

impl Shared {
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.generation.load(Ordering::Acquire) == seen && spins < SPINS {
                spins += 1;
                spin_loop();
            }
            let mut slot = self.job.lock().unwrap_or_else(PoisonError::into_inner);
            while self.generation.load(Ordering::Acquire) == seen {
                slot = self.wake.wait(slot).unwrap_or_else(PoisonError::into_inner);
            }
            seen = self.generation.load(Ordering::Acquire);
            let job = *slot;
            drop(slot);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(job) = job
                && std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        {
            let _slot = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.generation.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for handle in self.handles.drain(..) {
            // A thread of the pool ends only this way.
            let _ = handle.join();
        }
    }
}

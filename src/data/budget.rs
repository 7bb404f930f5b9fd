//! Memory that pictures may take while they are decoded, shared by all threads.

use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that all decoders together may hold (1 GiB).
const BYTES: u64 = 1 << 30;

/// What is left. A picture that costs more than there is waits for others to finish; it never waits for itself.
pub struct Budget {
    left: Mutex<u64>,
    freed: Condvar,
}

/// A share, given back when dropped.
pub struct Share<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    /// All of it.
    pub fn new() -> Self {
        Self { left: Mutex::new(BYTES), freed: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget counts as the whole.
    pub fn take(&self, bytes: u64) -> Share<'_> {
        let bytes = bytes.min(BYTES);
        // A thread that panicked has left a number behind like any other.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while *left < bytes {
            left = self.freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= bytes;
        Share { budget: self, bytes }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.left.lock().unwrap_or_else(PoisonError::into_inner) += self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn shares_never_exceed_the_budget_and_all_get_theirs() {
        let (budget, held, served) = (Budget::new(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (budget, held, served) = (&budget, &held, &served);
                scope.spawn(move || {
                    for i in 0..200 {
                        let bytes = BYTES / (1 + (thread * 7 + i) % 5);
                        let share = budget.take(bytes);
                        assert!(held.fetch_add(bytes, Ordering::SeqCst) + bytes <= BYTES);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        drop(share);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((served.into_inner(), *budget.left.lock().unwrap()), (1600, BYTES));
        assert_eq!(budget.take(u64::MAX).bytes, BYTES);
    }
}

//! A data set that stays on the host, read ahead of the training that takes batches of it.
//!
//! A thread puts together the batches that [`crate::ops::gather::batch_index`] names, one after another, a few of them ahead; whoever trains only
//! takes them. Which images a batch holds follows from its position alone, so nothing depends on how far ahead the thread is.

use super::{DataSet, Vectors};
use crate::error::{Error, Result};
use crate::ops::gather::{Storage, batch_index};
use std::any::Any;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Images or vectors that can be read by number, in memory or wherever they are.
pub trait Source: Send + Sync {
    /// Number of images or vectors, at least 1.
    fn count(&self) -> usize;

    /// Type of the values.
    fn storage(&self) -> Storage;

    /// Values of an image, (H, W, C), or of a vector.
    fn item_len(&self) -> usize;

    /// Copies the images or vectors `indices` to `out`, one behind the other; it has room for just them.
    ///
    /// # Errors
    /// [`Error::Input`] naming a file that cannot be read.
    fn read(&self, indices: &[u32], out: &mut [u8]) -> Result<()>;
}

impl Source for DataSet {
    fn count(&self) -> usize {
        self.count
    }

    fn storage(&self) -> Storage {
        if self.vectors.is_some() { Storage::F32 } else { Storage::U8 }
    }

    fn item_len(&self) -> usize {
        self.image_len()
    }

    fn read(&self, indices: &[u32], out: &mut [u8]) -> Result<()> {
        let all: &[u8] = match &self.vectors {
            Some(Vectors { values, .. }) => bytemuck::cast_slice(values),
            None => &self.images,
        };
        let bytes = self.image_len() * self.storage().bytes();
        for (&index, item) in indices.iter().zip(out.chunks_exact_mut(bytes)) {
            item.copy_from_slice(&all[index as usize * bytes..][..bytes]);
        }
        Ok(())
    }
}

/// A batch, as the device takes it.
#[derive(Debug, Default)]
pub struct Batch {
    /// Its images or vectors one behind the other, filled up with zeros to whole words.
    pub bytes: Vec<u8>,
}

/// In which order a data set is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Seed of the batch order.
    pub seed: u64,
    /// Images or vectors in a batch, at least 1.
    pub batch: usize,
}

/// Reads batches of a data set ahead, on a thread of its own, which ends when this is dropped.
pub struct Prefetcher {
    source: Arc<dyn Source>,
    order: Order,
    depth: usize,
    worker: Option<Worker>,
    waited: Duration,
}

/// The thread, and what it gives and takes.
struct Worker {
    /// Epoch and position in it of the batch that comes next.
    next: [u32; 2],
    batches: Receiver<Result<Batch>>,
    used: Sender<Batch>,
    thread: JoinHandle<()>,
}

impl Prefetcher {
    /// A prefetcher that keeps up to `depth` batches ready. It reads nothing before [`Prefetcher::seek`] or [`Prefetcher::take`].
    pub fn new(source: Arc<dyn Source>, order: Order, depth: usize) -> Self {
        Prefetcher { source, order, depth: depth.max(1), worker: None, waited: Duration::ZERO }
    }

    /// Reads on from an epoch and a position in it, as [`crate::ops::gather::batch_position`] gives them.
    ///
    /// # Errors
    /// [`Error::Environment`] if there can be no thread.
    pub fn seek(&mut self, position: [u32; 2]) -> Result<()> {
        if self.worker.as_ref().is_some_and(|worker| worker.next == position) {
            return Ok(());
        }
        self.stop();
        let (give, batches) = sync_channel(self.depth);
        let (used, reuse) = channel();
        let (source, order) = (self.source.clone(), self.order);
        let thread = thread::Builder::new().name("prefetch".into()).spawn(move || read_ahead(&*source, order, position, &give, &reuse));
        let thread = thread.map_err(|error| Error::environment(format!("cannot start the thread that reads the data set: {error}")))?;
        self.worker = Some(Worker { next: position, batches, used, thread });
        Ok(())
    }

    /// The batch at an epoch and a position in it. It is there already if it follows the one before and the thread keeps up; what this waits
    /// otherwise is counted ([`Prefetcher::take_waited`]).
    ///
    /// # Errors
    /// What [`Source::read`] returned for the batch. [`Error::Internal`] if it panicked. As [`Prefetcher::seek`].
    pub fn take(&mut self, position: [u32; 2]) -> Result<Batch> {
        self.seek(position)?;
        let Some(worker) = &mut self.worker else { return Err(Error::internal("a prefetcher without its thread")) };
        let received = match worker.batches.try_recv() {
            Ok(batch) => Some(batch),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => {
                let begun = Instant::now();
                let batch = worker.batches.recv().ok();
                self.waited += begun.elapsed();
                batch
            }
        };
        match received {
            Some(Ok(batch)) => {
                worker.next = after(position, self.order.batch, self.source.count());
                Ok(batch)
            }
            Some(Err(error)) => {
                self.stop();
                Err(error)
            }
            // The thread ends by itself only after an error, so it panicked.
            None => Err(Error::internal(format!("reading the data set ahead failed: {}", self.stop().unwrap_or_default()))),
        }
    }

    /// Gives back a batch that is done with, so that its memory is used again.
    pub fn recycle(&self, batch: Batch) {
        if let Some(worker) = &self.worker {
            // A thread that has ended needs no more memory; the next take says why it has.
            let _ = worker.used.send(batch);
        }
    }

    /// How long [`Prefetcher::take`] has waited for batches since this was last asked.
    pub fn take_waited(&mut self) -> Duration {
        mem::take(&mut self.waited)
    }

    /// Ends the thread, after the batch that it is at. Returns what it said if it panicked.
    fn stop(&mut self) -> Option<String> {
        let Worker { batches, used, thread, .. } = self.worker.take()?;
        // Without a receiver its next batch cannot be sent, and it ends.
        drop((batches, used));
        thread.join().err().map(|panic| words(&*panic))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string()).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_string())
}

/// The thread: batch after batch, until nobody wants more or one cannot be read.
fn read_ahead(source: &dyn Source, order: Order, mut position: [u32; 2], give: &SyncSender<Result<Batch>>, reuse: &Receiver<Batch>) {
    loop {
        let mut batch = reuse.try_recv().unwrap_or_default();
        let read = fill(source, order, position, &mut batch).map(|()| batch);
        let failed = read.is_err();
        if give.send(read).is_err() || failed {
            return;
        }
        position = after(position, order.batch, source.count());
    }
}

fn fill(source: &dyn Source, order: Order, [epoch, start]: [u32; 2], batch: &mut Batch) -> Result<()> {
    let images = source.count() as u32;
    let indices: Vec<u32> = (0..order.batch as u32).map(|row| batch_index(order.seed, epoch, images, start + row)).collect();
    let bytes = order.batch * source.item_len() * source.storage().bytes();
    batch.bytes.resize(bytes.next_multiple_of(4), 0);
    source.read(&indices, &mut batch.bytes[..bytes])
}

/// Epoch and position of what follows `items` others.
fn after([epoch, start]: [u32; 2], items: usize, images: usize) -> [u32; 2] {
    let (position, images) = (u64::from(start) + items as u64, images as u64);
    [epoch.wrapping_add((position / images) as u32), (position % images) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LoadOptions, load};
    use crate::ops::gather::batch_position;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Bytes that tell their number, and what was asked of them.
    #[derive(Default)]
    struct Numbers {
        reads: AtomicUsize,
        /// The image whose reading goes wrong, and how.
        bad: Option<(u32, fn())>,
        slow: Duration,
        gate: Mutex<()>,
    }

    const IMAGES: usize = 21;

    impl Source for Numbers {
        fn count(&self) -> usize {
            IMAGES
        }

        fn storage(&self) -> Storage {
            Storage::U8
        }

        fn item_len(&self) -> usize {
            3
        }

        fn read(&self, indices: &[u32], out: &mut [u8]) -> Result<()> {
            drop(self.gate.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
            thread::sleep(self.slow);
            self.reads.fetch_add(1, Ordering::SeqCst);
            if let Some((bad, how)) = self.bad
                && indices.contains(&bad)
            {
                how();
                return Err(Error::input(format!("picture {bad} is broken")));
            }
            out.chunks_exact_mut(3).zip(indices).for_each(|(item, &index)| item.fill(index as u8));
            Ok(())
        }
    }

    const ORDER: Order = Order { seed: 7, batch: 5 };

    fn expected(drawn: u64) -> Vec<u8> {
        let [epoch, start] = batch_position(IMAGES as u32, drawn);
        let mut bytes: Vec<u8> = (0..5).flat_map(|row| [batch_index(7, epoch, IMAGES as u32, start + row) as u8; 3]).collect();
        bytes.push(0);
        bytes
    }

    fn take(prefetcher: &mut Prefetcher, drawn: u64) -> Result<Vec<u8>> {
        let batch = prefetcher.take(batch_position(IMAGES as u32, drawn))?;
        let bytes = batch.bytes.clone();
        prefetcher.recycle(batch);
        Ok(bytes)
    }

    #[test]
    fn batches_come_in_the_batch_order_wherever_it_begins() {
        let mut prefetcher = Prefetcher::new(Arc::new(Numbers::default()), ORDER, 3);
        // On across epochs, back, ahead, and again.
        for drawn in (0..20).chain([3, 4, 5]).chain([1 << 40, (1 << 40) + 1]).chain([2, 2, 3]).map(|batch| batch * 5) {
            assert_eq!(take(&mut prefetcher, drawn).unwrap(), expected(drawn), "after {drawn} images");
        }
        assert_eq!(after([u32::MAX, 20], 5, IMAGES), [0, 4]);
        assert_eq!(after([3, 0], 2 * IMAGES, IMAGES), [5, 0]);
    }

    #[test]
    fn a_data_set_gives_its_images_and_vectors() {
        for spec in ["builtin:shapes?n=30", "builtin:gaussian?n=30"] {
            let set = Arc::new(load(spec, &LoadOptions::default()).unwrap());
            let mut prefetcher = Prefetcher::new(set.clone(), ORDER, 2);
            let batch = prefetcher.take([2, 27]).unwrap();
            let indices = (0..5).map(|row| batch_index(7, 2, 30, 27 + row) as usize);
            match &set.vectors {
                Some(_) => assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&batch.bytes), set.gather_f32(indices), "{spec}"),
                None => assert_eq!(batch.bytes, indices.flat_map(|i| set.image(i).to_vec()).collect::<Vec<_>>(), "{spec}"),
            }
        }
    }

    #[test]
    fn it_reads_so_far_ahead_and_no_further() {
        let source = Arc::new(Numbers::default());
        let mut prefetcher = Prefetcher::new(source.clone(), ORDER, 4);
        // Four batches that are ready, and one in hand that there is no room for.
        let settled = |more: usize| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while source.reads.load(Ordering::SeqCst) < more && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(20));
            source.reads.load(Ordering::SeqCst)
        };
        prefetcher.seek([0, 0]).unwrap();
        assert_eq!(settled(5), 5);
        prefetcher.take([0, 0]).unwrap();
        assert_eq!(settled(6), 6);
        // What is ready is not waited for.
        assert_eq!(prefetcher.take_waited(), Duration::ZERO);
    }

    #[test]
    fn waiting_is_counted_once() {
        let source = Arc::new(Numbers { slow: Duration::from_millis(5), ..Numbers::default() });
        let mut prefetcher = Prefetcher::new(source, ORDER, 2);
        // A machine that is busy elsewhere may let the thread be ahead now and then.
        (0..40).for_each(|batch| drop(take(&mut prefetcher, batch * 5).unwrap()));
        assert!(prefetcher.take_waited() > Duration::ZERO);
        assert_eq!(prefetcher.take_waited(), Duration::ZERO);
    }

    /// The thread holds its source for as long as it lives.
    #[test]
    fn the_thread_ends_with_its_prefetcher_and_with_its_place() {
        let source = Arc::new(Numbers::default());
        let mut prefetcher = Prefetcher::new(source.clone(), ORDER, 2);
        assert_eq!(Arc::strong_count(&source), 2, "nothing is read yet");
        take(&mut prefetcher, 0).unwrap();
        take(&mut prefetcher, 500).unwrap();
        assert_eq!(Arc::strong_count(&source), 3, "one thread, not two");
        drop(prefetcher);
        assert_eq!(Arc::strong_count(&source), 1);
        // Also while it reads.
        let mut prefetcher = Prefetcher::new(source.clone(), ORDER, 2);
        let gate = source.gate.lock().unwrap();
        prefetcher.seek([0, 0]).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| drop(prefetcher));
            drop(gate);
        });
        assert_eq!(Arc::strong_count(&source), 1);
    }

    #[test]
    fn what_goes_wrong_is_told_when_its_batch_is_due_and_again_later() {
        let ways: [(fn(), _, _); 2] = [(|| {}, 2, "picture 4 is broken"), (|| panic!("out of {}", "tune"), 1, "out of tune")];
        for (how, code, text) in ways {
            let source = Arc::new(Numbers { bad: Some((4, how)), ..Numbers::default() });
            let mut prefetcher = Prefetcher::new(source.clone(), ORDER, 2);
            let bad = (0..5).find(|batch| expected(batch * 5)[..15].contains(&4)).expect("every image comes once an epoch");
            (0..bad).for_each(|batch| assert_eq!(take(&mut prefetcher, batch * 5).unwrap(), expected(batch * 5)));
            for _ in 0..2 {
                let error = take(&mut prefetcher, bad * 5).unwrap_err();
                assert!(error.exit_code() == code && error.to_string().contains(text), "{error}");
            }
            drop(prefetcher);
            assert_eq!(Arc::strong_count(&source), 1);
        }
    }
}

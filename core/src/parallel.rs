//! How the host's threads share one piece of work.
//!
//! The host implements one call, [`Parallel::run`]; work is claimed here, from an atomic counter, in blocks of whole
//! output rows. No sum is ever split, so the number of threads cannot change a result.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The host's threads.
pub trait Parallel: Sync {
    /// How many threads may enter a job besides the caller; zero is valid.
    fn workers(&self) -> usize;

    /// Calls `job` on as many threads as there are, any number of times (even none), and returns when all of these
    /// calls have returned.
    fn run(&self, job: &(dyn Fn() + Sync));

    /// Called on the session's thread as each stage of a step begins: a host with a clock sees where the time goes.
    fn begin(&self, _stage: Stage) {}
}

/// The stages of a step: those of a layer in their order, then that of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Normalization before attention.
    AttentionNorm,
    /// Queries, keys and values.
    QueryKeyValue,
    /// Rotation of queries and keys, and the way of keys and values into the cache.
    Cache,
    /// Scores, softmax and the sum of values.
    Attention,
    /// The projection after attention.
    AttentionOutput,
    /// Normalization, router, and the choice of experts.
    Router,
    /// Experts that are not in memory are read.
    ReadExperts,
    /// Gates and linear parts of the experts.
    GateUp,
    /// The gated activation.
    Activation,
    /// What the experts give.
    Down,
    /// The sum over the experts, and the look for numbers that are not finite.
    Combine,
    /// Normalization and logits.
    Unembedding,
}

/// No threads but the caller's.
pub struct Alone;

impl Parallel for Alone {
    fn workers(&self) -> usize {
        0
    }

    fn run(&self, _job: &(dyn Fn() + Sync)) {}
}

/// Calls `work` once for each index below `count`, on all threads.
pub fn for_each(parallel: &dyn Parallel, count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let job = || {
        // The counter is left alone once all is claimed: the host may call this any number of times, and it must not wrap.
        while next.load(Ordering::Relaxed) < count {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index < count {
                work(index);
            }
        }
    };
    if count > 1 && parallel.workers() > 0 {
        parallel.run(&job);
    }
    job();
}

/// Calls `work` once for each block of `len` elements (the last may be shorter), on all threads.
///
/// # Panics
/// If `len` is zero.
pub fn for_each_block<T: Send>(
    parallel: &dyn Parallel,
    data: &mut [T],
    len: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    assert!(len > 0);
    let total = data.len();
    let start = Start(data.as_mut_ptr());
    for_each(parallel, total.div_ceil(len), |index| {
        let begin = index * len;
        // SAFETY: `begin < total`, and the blocks of different indices do not overlap; each index is claimed once; the
        // exclusive borrow of `data` outlives this call, which returns only when all work is done.
        let block = unsafe { core::slice::from_raw_parts_mut(start.get().add(begin), len.min(total - begin)) };
        work(index, block);
    });
}

/// Calls `work` once for each of `rows` rows, with the elements of that row in each of three matrices (which may have no
/// columns), on all threads.
///
/// # Panics
/// If a matrix is not a whole number of rows.
pub fn for_each_row<A: Send, B: Send, C: Send>(
    parallel: &dyn Parallel,
    rows: usize,
    (a, b, c): (&mut [A], &mut [B], &mut [C]),
    work: impl Fn(usize, &mut [A], &mut [B], &mut [C]) + Sync,
) {
    if rows == 0 {
        return;
    }
    let columns = [a.len(), b.len(), c.len()].map(|len| {
        assert!(len.is_multiple_of(rows));
        len / rows
    });
    let (a, b, c) = (Start(a.as_mut_ptr()), Start(b.as_mut_ptr()), Start(c.as_mut_ptr()));
    for_each(parallel, rows, |row| {
        // SAFETY: each matrix has `rows` rows of its number of columns, which do not overlap; each row is claimed once; the
        // exclusive borrows outlive this call, which returns only when all work is done.
        unsafe {
            work(
                row,
                core::slice::from_raw_parts_mut(a.get().add(row * columns[0]), columns[0]),
                core::slice::from_raw_parts_mut(b.get().add(row * columns[1]), columns[1]),
                core::slice::from_raw_parts_mut(c.get().add(row * columns[2]), columns[2]),
            );
        }
    });
}

/// Elements that are shared, and lent to one thread at a time.
pub struct Lent<'r, T> {
    start: *mut T,
    len: usize,
    in_use: AtomicBool,
    elements: PhantomData<&'r mut [T]>,
}

// SAFETY: as for a mutex: elements that may be sent are reached by one thread at a time.
unsafe impl<T: Send> Sync for Lent<'_, T> {}

// SAFETY: an exclusive borrow of elements that may be sent.
unsafe impl<T: Send> Send for Lent<'_, T> {}

impl<'r, T> Lent<'r, T> {
    /// Shares these elements.
    pub fn new(elements: &'r mut [T]) -> Self {
        Self {
            start: elements.as_mut_ptr(),
            len: elements.len(),
            in_use: AtomicBool::new(false),
            elements: PhantomData,
        }
    }

    /// The elements, until the loan is dropped; `None` if they are in use.
    pub fn lend(&self) -> Option<Loan<'_, T>> {
        let free = self.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then(|| Loan {
            // SAFETY: an exclusive borrow for 'r, which outlives this one; `in_use` keeps every other loan away until this one
            // is dropped.
            elements: unsafe { core::slice::from_raw_parts_mut(self.start, self.len) },
            in_use: &self.in_use,
        })
    }
}

/// Elements of a [`Lent`], in use.
pub struct Loan<'a, T> {
    elements: &'a mut [T],
    in_use: &'a AtomicBool,
}

impl<T> core::ops::Deref for Loan<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements
    }
}

impl<T> core::ops::DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        self.in_use.store(false, Ordering::Release);
    }
}

/// A pointer that may cross threads because the pieces made from it are disjoint.
struct Start<T>(*mut T);

// SAFETY: the functions of this module make only disjoint exclusive slices from it, of elements that may be sent.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// An exclusive view of a block of a row-major matrix of f32: some rows, and some columns of each.
pub struct Tile<'a> {
    start: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, like `&mut [f32]`.
unsafe impl Send for Tile<'_> {}

impl<'a> Tile<'a> {
    /// The first `rows` rows of a matrix with `stride` columns, all columns.
    ///
    /// # Panics
    /// If `matrix` is shorter than that.
    pub fn new(matrix: &'a mut [f32], rows: usize, stride: usize) -> Self {
        assert!(rows.checked_mul(stride).is_some_and(|len| len <= matrix.len()));
        Self { start: matrix.as_mut_ptr(), rows, columns: stride, stride, matrix: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns of this view.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The first element.
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start
    }

    /// One row, the columns of this view.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: the tile covers `columns` elements from `row * stride` on, exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }

    /// The given columns of the tile, for as long as it is borrowed.
    ///
    /// # Panics
    /// If they are not within it.
    pub fn columns_mut(&mut self, columns: Range<usize>) -> Tile<'_> {
        assert!(columns.start <= columns.end && columns.end <= self.columns);
        // SAFETY: within the tile, and its borrow keeps the whole from being used meanwhile.
        unsafe { self.part(0..self.rows, columns) }
    }

    /// # Safety
    /// Rows and columns lie within the tile, and no other use of these elements overlaps the result's.
    unsafe fn part<'b>(&self, rows: Range<usize>, columns: Range<usize>) -> Tile<'b> {
        Tile {
            // SAFETY: an element of the tile, or one past it where the part is empty, by the contract.
            start: unsafe {
                self.start.add(if rows.is_empty() { 0 } else { rows.start * self.stride + columns.start })
            },
            rows: rows.len(),
            columns: columns.len(),
            stride: self.stride,
            matrix: PhantomData,
        }
    }
}

/// How the rows of a matrix are shared out.
#[derive(Clone, Copy)]
pub enum Groups<'a> {
    /// All in one group.
    Whole,
    /// So many in each; the last may have fewer.
    Of(usize),
    /// Group g is the rows from `bounds[g]` to `bounds[g + 1]`.
    Bounds(&'a [usize]),
}

impl Groups<'_> {
    fn count(&self, rows: usize) -> usize {
        match self {
            Self::Whole => 1,
            Self::Of(count) => rows.div_ceil(*count),
            Self::Bounds(bounds) => bounds.len().saturating_sub(1),
        }
    }

    fn rows(&self, group: usize, rows: usize) -> Range<usize> {
        match self {
            Self::Whole => 0..rows,
            Self::Of(count) => group * count..rows.min((group + 1) * count),
            Self::Bounds(bounds) => bounds[group]..bounds[group + 1],
        }
    }
}

/// Cuts a matrix into groups of rows and each group into tiles `width` columns wide, and calls
/// `work(group, first_column, tile)` once for each, on all threads. Empty groups are passed over.
///
/// # Panics
/// If bounds decrease or pass the last row, or if `width` or the rows of a group are zero.
pub fn for_each_tile(
    parallel: &dyn Parallel,
    matrix: Tile<'_>,
    groups: Groups<'_>,
    width: usize,
    work: impl Fn(usize, usize, Tile<'_>) + Sync,
) {
    if let Groups::Bounds(bounds) = groups {
        assert!(bounds.is_sorted() && bounds.last().is_none_or(|last| *last <= matrix.rows));
    }
    let across = matrix.columns.div_ceil(width);
    let whole = SharedTile(matrix);
    for_each(parallel, groups.count(whole.get().rows) * across, |index| {
        let (group, column) = (index / across, index % across * width);
        let rows = groups.rows(group, whole.get().rows);
        if rows.is_empty() {
            return;
        }
        // SAFETY: groups are disjoint (bounds are sorted), and so are the column ranges of one group; each index is
        // claimed once; `matrix` is held exclusively until all work is done.
        let tile = unsafe { whole.get().part(rows, column..(column + width).min(whole.get().columns)) };
        work(group, column, tile);
    });
}

struct SharedTile<'a>(Tile<'a>);

// SAFETY: used only to cut disjoint parts from, above.
unsafe impl Sync for SharedTile<'_> {}

impl<'a> SharedTile<'a> {
    fn get(&self) -> &Tile<'a> {
        &self.0
    }
}

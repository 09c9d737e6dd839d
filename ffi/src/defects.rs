//! A defect of the library is caught at the border. There is none that a program could call, so these tests bring their own.

use core::ffi::c_void;
use core::ptr;

use ossicle_core::parallel::Parallel;
use ossicle_core::region::ALIGN;

use crate::hooks::{Hooks, ossicle_host, ossicle_job};
use crate::input::Versioned;
use crate::object::{Opaque, exclusive, place, shared};
use crate::status::{
    OSSICLE_ERROR_FAILED, OSSICLE_ERROR_INTERNAL, OSSICLE_ERROR_TEXT_SIZE, OSSICLE_OK, call, ossicle_error,
};

/// An object whose calls have a defect.
struct Bomb;

impl Opaque for Bomb {
    type State = u32;
    const KIND: u32 = u32::from_le_bytes(*b"Bomb");
}

#[repr(align(64))]
struct Region([u8; 4 * ALIGN]);

fn bomb(region: &mut Region) -> *mut Bomb {
    // SAFETY: the region is there for as long as the test.
    unsafe { place::<Bomb>(region.0.as_mut_ptr().cast(), region.0.len(), |_| Ok(7)) }.ok().expect("an object")
}

fn no_error() -> ossicle_error {
    ossicle_error {
        struct_size: size_of::<ossicle_error>() as u32,
        status: 0,
        file: 0,
        text_size: 0,
        offset: 0,
        text: [0; OSSICLE_ERROR_TEXT_SIZE],
    }
}

/// A call that uses the object and then does `work`.
fn use_of(object: *mut Bomb, error: *mut ossicle_error, work: impl FnOnce()) -> i32 {
    call(error, || {
        // SAFETY: made above.
        let state = unsafe { exclusive(object) }?;
        assert_eq!(*state, 7);
        work();
        Ok(OSSICLE_OK)
    })
}

#[test]
fn a_panic_becomes_an_error_that_costs_the_objects_of_the_call_and_no_others() {
    let (mut first, mut second) = (Region([0; 4 * ALIGN]), Region([0; 4 * ALIGN]));
    let (broken, whole) = (bomb(&mut first), bomb(&mut second));
    let mut error = no_error();
    assert_eq!(use_of(broken, &mut error, || ()), OSSICLE_OK);
    assert_eq!(error.text_size, 0);
    assert_eq!(use_of(broken, &mut error, || panic!("a defect")), OSSICLE_ERROR_INTERNAL);
    assert_eq!(error.status, OSSICLE_ERROR_INTERNAL);
    assert!(error.text_size > 10);
    assert_eq!(use_of(broken, &mut error, || ()), OSSICLE_ERROR_FAILED);
    assert_eq!(use_of(whole, &mut error, || ()), OSSICLE_OK);
    // A new object in the same memory is whole again.
    let again = bomb(&mut first);
    assert_eq!(use_of(again, &mut error, || ()), OSSICLE_OK);
    // SAFETY: made above.
    assert!(unsafe { shared(again) }.is_ok());
}

/// Runs the job on another thread only, where a panic would end the process.
unsafe extern "C" fn elsewhere(_: *mut c_void, job: ossicle_job, job_data: *mut c_void) {
    let (job, address) = (job.expect("a job"), job_data.expose_provenance());
    // SAFETY: the thread ends before this returns.
    let thread = std::thread::spawn(move || unsafe { job(ptr::with_exposed_provenance_mut(address)) });
    thread.join().expect("a job does not unwind into the host");
}

#[test]
fn a_panic_on_a_thread_of_the_host_does_not_reach_it() {
    let host = ossicle_host {
        struct_size: size_of::<ossicle_host>() as u32,
        workers: 1,
        parallel: Some(elsewhere),
        ..ossicle_host::zero()
    };
    // SAFETY: a struct with its size.
    let hooks = unsafe { Hooks::read(&host) }.ok().expect("callbacks");
    let mut region = Region([0; 4 * ALIGN]);
    let object = bomb(&mut region);
    let status = use_of(object, ptr::null_mut(), || hooks.run(&|| panic!("a defect in a job")));
    assert_eq!(status, OSSICLE_ERROR_INTERNAL);
    assert_eq!(use_of(object, ptr::null_mut(), || ()), OSSICLE_ERROR_FAILED);
}

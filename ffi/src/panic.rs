//! What happens on a defect, where there is no unwinding.

use core::fmt::Write;
use core::panic::PanicInfo;

use crate::status::Text;

unsafe extern "C" {
    /// To be defined by programs that link the freestanding library, and by no other: called on a defect of the library. It
    /// must not return.
    ///
    /// `text`, `size`: what happened and where, for the log.
    ///
    /// Memory: the text is valid during the call.
    /// Errors: none.
    /// Threads: the one that met the defect; others may go on.
    /// Since: 0.1.
    fn ossicle_panic(text: *const core::ffi::c_char, size: usize);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Text::<256>::default();
    // Cut where the room ends.
    let _ = write!(text, "{info}");
    // SAFETY: the text is valid for the call.
    unsafe { ossicle_panic(text.as_bytes().as_ptr().cast(), text.as_bytes().len()) };
    loop {
        core::hint::spin_loop();
    }
}

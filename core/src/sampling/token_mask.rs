use crate::error::Result;

/// Which tokens may come next in the content of one message.
///
/// A turn begins it where the content begins, and tells it each token of the content. Hosts may bring their own.
pub trait TokenMask {
    /// The content of a message begins; whatever came before is forgotten.
    fn begin(&mut self);

    /// Sets in `mask` the bit of each ordinary token that may come next, token 0 in the lowest bit of the first word, and
    /// clears all others. Returns whether the content may end here.
    ///
    /// # Errors
    /// [`crate::error::Error::Mask`] where the mask cannot tell. The step of the turn then fails with it, and asks again if it
    /// is repeated.
    fn allowed(&mut self, mask: &mut [u32]) -> Result<bool>;

    /// As [`TokenMask::allowed`], which may leave out other tokens for the same text, but with all of them: a turn asks for it
    /// where it can draw none of those.
    ///
    /// # Errors
    /// As [`TokenMask::allowed`].
    fn all_allowed(&mut self, mask: &mut [u32]) -> Result<bool> {
        self.allowed(mask)
    }

    /// Takes the token that was written. False if it was not allowed; then nothing is allowed any more.
    fn accept(&mut self, token: u32) -> bool;
}

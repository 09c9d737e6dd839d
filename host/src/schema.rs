//! Schemas with memory of their own: from a text to the constraints of a turn.
//!
//! An [`Arena`] holds what a request takes, and frees it all at once.

use std::alloc::Layout as BlockLayout;
use std::mem::MaybeUninit;

use bumpalo::Bump;
use ossicle_core::error::{Error, Result};
use ossicle_core::generation::{Constrained, Constraint};
use ossicle_core::region::Layout;
use ossicle_core::schema::{JsonPath, Schema, SchemaMask, TokenIndex, Unsupported};
use ossicle_core::tokenizer::Tokenizer;

use crate::Memory;
use crate::vocabulary::o200k_token_index;

/// Memory for schemas and masks.
#[derive(Default)]
pub struct Arena(Bump);

impl Arena {
    /// Without any memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    #[allow(clippy::mut_from_ref)] // Each call hands out another block.
    fn region(&self, layout: Layout) -> Result<&mut [MaybeUninit<u8>]> {
        let too_large = |_| Error::RegionTooSmall { need: layout.size, have: 0 };
        let block = BlockLayout::from_size_align(layout.size, layout.align)
            .map_err(|_| Error::RegionTooSmall { need: layout.size, have: 0 })?;
        let start = self.0.try_alloc_layout(block).map_err(too_large)?;
        // SAFETY: the block has this size, is handed out once, and lives as long as the arena; it may be uninitialized.
        Ok(unsafe { std::slice::from_raw_parts_mut(start.as_ptr().cast(), layout.size) })
    }

    /// The index of a vocabulary, once for a model. If its tokens are those of o200k_harmony, it is part of the program; any other takes
    /// some time.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if there is no memory.
    pub fn index<'a>(&'a self, tokenizer: Tokenizer<'a>) -> Result<TokenIndex<'a>> {
        if let Ok(index) = TokenIndex::open(o200k_token_index(), tokenizer) {
            return Ok(index);
        }
        TokenIndex::new(self.region(TokenIndex::layout(&tokenizer)?)?, tokenizer)
    }

    /// Compiles a schema.
    ///
    /// # Errors
    /// As [`Schema::new`]; [`explain`] says where.
    pub fn schema(&self, text: &str, unsupported: Unsupported) -> Result<Schema<'_>> {
        let scratch = Schema::scratch_layout(text)?;
        let mut memory = Memory::new(scratch).map_err(|_| Error::RegionTooSmall { need: scratch.size, have: 0 })?;
        Schema::new(self.region(Schema::layout(text)?)?, memory.region(), text, unsupported)
    }

    /// A mask for texts that meet the schema.
    ///
    /// # Errors
    /// [`Error::RegionTooSmall`] if there is no memory.
    #[allow(clippy::mut_from_ref)] // Each call makes another mask.
    pub fn mask<'a>(&'a self, schema: &Schema<'a>, index: TokenIndex<'a>) -> Result<&'a mut SchemaMask<'a>> {
        Ok(self.0.alloc(SchemaMask::new(self.region(SchemaMask::layout(&index)?)?, schema, index)?))
    }

    /// A constraint for the turns of a request: compiles the schema and makes its mask.
    ///
    /// # Errors
    /// As [`Arena::schema`] and [`Arena::mask`].
    pub fn constraint<'a>(
        &'a self,
        on: Constrained<'a>,
        text: &str,
        unsupported: Unsupported,
        index: TokenIndex<'a>,
    ) -> Result<Constraint<'a>> {
        let schema = self.schema(text, unsupported)?;
        Ok(Constraint { on, mask: self.mask(&schema, index)? })
    }
}

/// An error with the path in the schema, if it is one about a schema.
pub fn explain(error: &Error, text: &str) -> String {
    match error {
        Error::Schema(error) => {
            let path = JsonPath { text, offset: error.offset };
            format!("{path}: {}: expected {} (byte {})", error.keyword, error.expected, error.offset)
        }
        other => other.to_string(),
    }
}

//! A conversation as bytes.
//!
//! Behind the header of every [snapshot](crate::file::snapshot): how many tokens, finished messages and messages under way (0 or 1);
//! the tokens; for each message where it begins and what decides whether it stays; then the session's part, for as many of the
//! tokens as it has taken in. Of a prefix: how many tokens; the tokens; the session's part for all of them.

use crate::error::{Error, Result};
use crate::file::snapshot::{Reader, Writer};
use crate::harmony::history::Facts;

use super::conversation::{Generation, Open};

const KIND: [u8; 8] = *b"talk\0\0\0\0";
const PREFIX: [u8; 8] = *b"prefix\0\0";

/// Behind the header of a message under way there are facts.
const FACTS: u64 = 1 << 4;

impl Generation<'_, '_> {
    /// Writes the conversation and what the session has taken in of it, in pieces. Of a turn under way, it is what the model has
    /// said so far.
    pub fn save(&self, write: &mut dyn FnMut(&[u8])) {
        let mut writer = Writer::new(KIND, write);
        let open = self.open.iter();
        writer.words([self.tokens().len(), self.finished().len(), open.len()].map(|count| count as u64));
        writer.bytes(self.tokens().iter().map(|token| token.to_le_bytes()));
        writer.align();
        writer.words(self.finished().iter().flat_map(|message| [message.begin as u64, bits(message.facts)]));
        let facts = |facts: Option<Facts>| facts.map_or(0, |facts| bits(facts) | FACTS);
        writer.words(open.flat_map(|open| [open.begin as u64, facts(open.facts)]));
        self.session.save_at(self.taken_in(), &mut writer);
        writer.finish();
    }

    /// Writes the first `position` tokens and what the session has computed of them, in pieces: as little as it takes to go on behind
    /// them, so that whoever restores it cannot go back.
    ///
    /// # Errors
    /// [`Error::State`] if the session has not taken in so many, [`Error::Rewind`] if it could not go back there. Nothing is
    /// written then.
    pub fn save_prefix(&self, position: usize, write: &mut dyn FnMut(&[u8])) -> Result<()> {
        if position > self.taken_in() {
            return Err(Error::State("a position up to which all is taken in"));
        }
        self.session.demand_reach(position)?;
        let mut writer = Writer::new(PREFIX, write);
        writer.words([position as u64]);
        writer.bytes(self.tokens()[..position].iter().map(|token| token.to_le_bytes()));
        writer.align();
        self.session.save_prefix(position, &mut writer);
        writer.finish();
        Ok(())
    }

    /// Bytes that [`Generation::save_prefix`] writes of so many tokens, whatever they are; `None` if the conversation has fewer.
    pub fn prefix_size(&self, position: usize) -> Option<usize> {
        let tokens = size_of_val(self.tokens().get(..position)?).next_multiple_of(size_of::<u64>());
        // The header, how many tokens, and the checksum.
        self.session.prefix_size(position)?.checked_add(5 * size_of::<u64>() + tokens)
    }

    /// Spares the session what was computed of a saved prefix, if the conversation begins with its tokens and the session
    /// holds fewer. Returns whether it does; a turn under way is then over.
    ///
    /// # Errors
    /// [`Error::File`] if `bytes` are no saved prefix, not as they were written, or of another model, precision or format of the cache. All is
    /// as before.
    pub fn restore_prefix(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut reader = Reader::new(PREFIX, bytes)?;
        let len = reader.within(0, reader.size(), "a count of tokens")?;
        let tokens = reader.take(len, 4)?.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        reader.align();
        if len <= self.taken_in() || !self.tokens().get(..len).is_some_and(|own| own.iter().copied().eq(tokens)) {
            return Ok(false);
        }
        self.forget_drafts();
        self.session.restore_from(&mut reader, len)?;
        self.taken_in_anew();
        Ok(true)
    }

    /// Makes the conversation of another generation with the same model, precision, format of the cache and adapters this one's too, with
    /// all that its session has taken in. A turn under way here is over; one there stays, and of it this conversation has what was said so
    /// far. Neither notices what becomes of the other.
    ///
    /// # Errors
    /// [`Error::State`] if the model, the precision, the format of the cache or the adapters are others; [`Error::Capacity`] if
    /// there is not enough room. The conversation is then as before.
    pub fn fork_from(&mut self, origin: &Generation<'_, '_>) -> Result<()> {
        self.demand_room(origin.tokens().len(), origin.finished().len())?;
        self.forget_drafts();
        self.session.fork_at(&origin.session, origin.taken_in())?;
        self.begin_anew(origin.tokens().iter().copied());
        for message in origin.finished() {
            self.finish(message.begin, message.facts)?;
        }
        self.open = origin.open;
        Ok(())
    }

    fn demand_room(&self, tokens: usize, messages: usize) -> Result<()> {
        let capacity = |what, need: usize, have: usize| {
            if need <= have { Ok(()) } else { Err(Error::Capacity { what, need, have }) }
        };
        capacity("tokens in the context", tokens, self.session.config().context_tokens)?;
        capacity("messages in the conversation", messages, self.messages_capacity())
    }

    /// Makes a conversation that was saved the whole conversation. A turn under way is over.
    ///
    /// # Errors
    /// [`Error::File`] if `bytes` are not such a snapshot, not as they were written, or of another model, precision or format of the cache;
    /// [`Error::Capacity`] if there is not enough room. The conversation is then as before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        let mut reader = Reader::new(KIND, bytes)?;
        let most = reader.size();
        let len = reader.within(0, most, "a count of tokens")?;
        let messages = reader.within(0, most, "a count of messages")?;
        let open = reader.within(0, 1, "at most one message under way")?;
        self.demand_room(len, messages)?;
        let vocabulary = self.session.model().config().vocabulary;
        let tokens = reader.take(len, 4)?.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        if let Some((index, token)) = tokens.clone().enumerate().find(|(_, token)| *token as usize >= vocabulary) {
            return Err(Error::Token { index, token, vocabulary });
        }
        reader.align();
        // Once to see that all is right, and once to use it.
        let mut again = reader.clone();
        let mut begin = 0;
        for _ in 0..messages + open {
            begin = reader.within(begin, len, "the beginning of a message, behind the one before")?;
            reader.within(0, (2 * FACTS - 1) as usize, "what is known of a message")?;
        }
        self.forget_drafts();
        self.session.restore_from(&mut reader, len)?;
        self.begin_anew(tokens);
        for _ in 0..messages {
            let (begin, facts) = (again.word()? as usize, again.word()?);
            self.finish(begin, facts_of(facts))?;
        }
        if open == 1 {
            let (begin, facts) = (again.word()? as usize, again.word()?);
            self.open = Some(Open { begin, facts: (facts & FACTS != 0).then(|| facts_of(facts)) });
        }
        Ok(())
    }
}

fn bits(facts: Facts) -> u64 {
    let Facts { by_assistant, is_analysis, is_final, has_recipient } = facts;
    [by_assistant, is_analysis, is_final, has_recipient].iter().rev().fold(0, |bits, fact| bits << 1 | u64::from(*fact))
}

fn facts_of(bits: u64) -> Facts {
    let [by_assistant, is_analysis, is_final, has_recipient] = core::array::from_fn(|fact| bits >> fact & 1 == 1);
    Facts { by_assistant, is_analysis, is_final, has_recipient }
}

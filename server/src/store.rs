//! Responses that can be retrieved, and gone on from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde_json::{Value, json};

use crate::seal::random;

/// A response, its input and its owner, as JSON, by its id.
const RESPONSES: TableDefinition<&str, &[u8]> = TableDefinition::new("responses");
/// The ids of responses in the order in which they were last used.
const ORDER: TableDefinition<u64, &str> = TableDefinition::new("order");
/// The response that has an item, by the owner and the item's id.
const ITEMS: TableDefinition<(&str, &str), &str> = TableDefinition::new("items");
/// Numbers about the whole.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The key that reasoning is encrypted with.
const KEYS: TableDefinition<&str, [u8; 32]> = TableDefinition::new("keys");

/// Bytes of all that is stored.
const SIZE: &str = "size";
/// The next place in the order.
const NEXT: &str = "next";
/// The longest conversation that can be gone on with, in responses.
const LONGEST: usize = 1000;

/// A database of bounded size: the responses unused for longest make room for new ones.
pub struct Store {
    database: Database,
    size: u64,
    /// One change at a time, without waiting inside of the database.
    writing: Mutex<()>,
}

/// A stored response.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Whose it is.
    pub owner: String,
    /// The response.
    pub response: Value,
    /// The items that came with its request.
    pub input: Vec<Value>,
}

type Result<T> = std::result::Result<T, redb::Error>;

impl Store {
    /// A store that ends with the process, of so many bytes.
    ///
    /// # Errors
    /// None that is known.
    pub fn in_memory(size: u64) -> Result<Self> {
        Self::with(Database::builder().create_with_backend(InMemoryBackend::new())?, size)
    }

    /// The store in a file, which only its owner may read.
    ///
    /// # Errors
    /// If the file cannot be opened, or is something else.
    pub fn open(path: &Path, size: u64) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Self::with(Database::builder().create_with_backend(FileBackend::new(options.open(path)?)?)?, size)
    }

    fn with(database: Database, size: u64) -> Result<Self> {
        let write = database.begin_write()?;
        write.open_table(RESPONSES)?;
        write.open_table(ORDER)?;
        write.open_table(ITEMS)?;
        write.open_table(NUMBERS)?;
        write.open_table(KEYS)?;
        write.commit()?;
        Ok(Self { database, size, writing: Mutex::new(()) })
    }

    /// The key that belongs to this store, made when it is first asked for.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn key(&self) -> Result<[u8; 32]> {
        self.write(|write| {
            let mut keys = write.open_table(KEYS)?;
            let found = keys.get("reasoning")?.map(|key| key.value());
            let key = found.unwrap_or_else(random);
            keys.insert("reasoning", key)?;
            Ok(key)
        })
    }

    fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T>) -> Result<T> {
        let _one = self.writing.lock();
        let write = self.database.begin_write()?;
        let result = work(&write)?;
        write.commit()?;
        Ok(result)
    }

    /// Keeps a response, in place of an earlier state of it. What is larger than the whole store is not kept.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put(&self, id: &str, stored: &Stored) -> Result<()> {
        self.write(|write| {
            remove(write, id)?;
            let Stored { owner, response, input } = stored;
            let mut numbers = write.open_table(NUMBERS)?;
            let order = number(&numbers, NEXT)?;
            let record = json!({ "owner": owner, "order": order, "response": response, "input": input }).to_string();
            let mut size = number(&numbers, SIZE)? + record.len() as u64;
            if record.len() as u64 > self.size {
                return Ok(());
            }
            numbers.insert(NEXT, order + 1)?;
            numbers.insert(SIZE, size)?;
            drop(numbers);
            write.open_table(RESPONSES)?.insert(id, record.as_bytes())?;
            write.open_table(ORDER)?.insert(order, id)?;
            let mut items = write.open_table(ITEMS)?;
            for item in stored.items().filter_map(|item| item["id"].as_str()) {
                items.insert((&**owner, item), id)?;
            }
            drop(items);
            while size > self.size {
                let oldest = write.open_table(ORDER)?.first()?.map(|(_, id)| id.value().to_owned());
                let Some(oldest) = oldest else { break };
                remove(write, &oldest)?;
                size = number(&write.open_table(NUMBERS)?, SIZE)?;
            }
            Ok(())
        })
    }

    /// The response of this owner with this id.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn get(&self, owner: &str, id: &str) -> Result<Option<Stored>> {
        let read = self.database.begin_read()?;
        let record = read.open_table(RESPONSES)?.get(id)?.and_then(|record| parse(record.value()));
        Ok(record.map(|(stored, _)| stored).filter(|stored| stored.owner == owner))
    }

    /// Forgets a response. False if this owner has none with this id.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn delete(&self, owner: &str, id: &str) -> Result<bool> {
        let is_there = self.get(owner, id)?.is_some();
        if is_there {
            self.write(|write| remove(write, id))?;
        }
        Ok(is_there)
    }

    /// Items of the inputs and outputs of this owner's responses, by their ids: those that are there, until they have more than
    /// `most` bytes together. Each response is read once, however many of its items are asked for.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn items(&self, owner: &str, ids: &[&str], most: usize) -> Result<HashMap<String, Value>> {
        let table = self.database.begin_read()?.open_table(ITEMS)?;
        let mut wanted: BTreeMap<String, HashSet<&str>> = BTreeMap::new();
        for id in ids {
            if let Some(response) = table.get((owner, *id))? {
                wanted.entry(response.value().to_owned()).or_default().insert(id);
            }
        }
        let (mut found, mut size) = (HashMap::new(), 0);
        for (response, ids) in wanted {
            let Some(stored) = self.get(owner, &response)? else { continue };
            for item in stored.items() {
                let Some(id) = item["id"].as_str().filter(|id| ids.contains(id) && size <= most) else { continue };
                size += item.to_string().len();
                found.entry(id.to_owned()).or_insert_with(|| item.clone());
            }
        }
        Ok(found)
    }

    /// All items of the conversation that ends with this response, which then counts as used. `None` if it, or one that it
    /// goes on from, is not there.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn history(&self, owner: &str, id: &str) -> Result<Option<Vec<Value>>> {
        let mut chain = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let Some(stored) = self.get(owner, &id)?.filter(|_| chain.len() < LONGEST) else { return Ok(None) };
            next = stored.response["previous_response_id"].as_str().map(str::to_owned);
            chain.push((id, stored));
        }
        chain.reverse();
        self.write(|write| chain.iter().try_for_each(|(id, _)| touch(write, id)))?;
        Ok(Some(chain.iter().flat_map(|(_, stored)| stored.items().cloned()).collect()))
    }
}

impl Stored {
    fn items(&self) -> impl Iterator<Item = &Value> {
        self.input.iter().chain(self.response["output"].as_array().into_iter().flatten())
    }
}

fn parse(record: &[u8]) -> Option<(Stored, u64)> {
    let mut record: Value = serde_json::from_slice(record).ok()?;
    let owner = record["owner"].as_str()?.to_owned();
    let Value::Array(input) = record["input"].take() else { return None };
    let order = record["order"].as_u64()?;
    Some((Stored { owner, response: record["response"].take(), input }, order))
}

fn number(numbers: &impl ReadableTable<&'static str, u64>, name: &'static str) -> Result<u64> {
    Ok(numbers.get(name)?.map_or(0, |number| number.value()))
}

fn remove(write: &WriteTransaction, id: &str) -> Result<()> {
    let removed = write.open_table(RESPONSES)?.remove(id)?.map(|record| record.value().to_vec());
    let Some(removed) = removed else { return Ok(()) };
    let mut numbers = write.open_table(NUMBERS)?;
    let size = number(&numbers, SIZE)?;
    numbers.insert(SIZE, size.saturating_sub(removed.len() as u64))?;
    let Some((stored, order)) = parse(&removed) else { return Ok(()) };
    write.open_table(ORDER)?.remove(order)?;
    let mut items = write.open_table(ITEMS)?;
    for item in stored.items().filter_map(|item| item["id"].as_str()) {
        // A later response may have the same item.
        let is_this = items.get((&*stored.owner, item))?.is_some_and(|response| response.value() == id);
        if is_this {
            items.remove((&*stored.owner, item))?;
        }
    }
    Ok(())
}

/// Puts a response at the end of the order.
fn touch(write: &WriteTransaction, id: &str) -> Result<()> {
    let mut responses = write.open_table(RESPONSES)?;
    let Some(mut record) = responses.get(id)?.and_then(|record| serde_json::from_slice::<Value>(record.value()).ok())
    else {
        return Ok(());
    };
    let mut numbers = write.open_table(NUMBERS)?;
    let (size, next) = (number(&numbers, SIZE)?, number(&numbers, NEXT)?);
    let before = record.to_string().len() as u64;
    let mut order = write.open_table(ORDER)?;
    order.remove(record["order"].as_u64().unwrap_or(0))?;
    order.insert(next, id)?;
    record["order"] = next.into();
    let text = record.to_string();
    responses.insert(id, text.as_bytes())?;
    numbers.insert(NEXT, next + 1)?;
    numbers.insert(SIZE, (size + text.len() as u64).saturating_sub(before))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Store, Stored};

    fn stored(owner: &str, previous: Option<&str>, text: &str) -> Stored {
        Stored {
            owner: owner.into(),
            response: json!({ "previous_response_id": previous, "output": [{ "id": format!("out-{text}") }] }),
            input: vec![json!({ "id": format!("in-{text}") })],
        }
    }

    #[test]
    fn a_response_is_its_owners_only() {
        let store = Store::in_memory(1 << 20).expect("a store");
        let mine = stored("me", None, "a");
        store.put("1", &mine).expect("room");
        assert_eq!(store.get("me", "1").expect("read"), Some(mine));
        assert_eq!(store.get("you", "1").expect("read"), None);
        let found = |owner| store.items(owner, &["out-a", "in-a", "in-b", "out-a"], 1000).expect("read");
        assert_eq!(found("me").len(), 2);
        assert_eq!(found("me")["out-a"], json!({ "id": "out-a" }));
        assert_eq!(found("you").len(), 0);
        assert_eq!(store.history("you", "1").expect("read"), None);
        assert!(!store.delete("you", "1").expect("write"));
        assert!(store.delete("me", "1").expect("write"));
        assert_eq!(store.get("me", "1").expect("read"), None);
        assert_eq!(found("me").len(), 0);
    }

    #[test]
    fn a_conversation_is_all_items_from_the_first_response_on() {
        let store = Store::in_memory(1 << 20).expect("a store");
        store.put("1", &stored("me", None, "a")).expect("room");
        store.put("2", &stored("me", Some("1"), "b")).expect("room");
        let ids = |id| {
            let items = store.history("me", id).expect("read");
            items.map(|items| items.iter().map(|item| item["id"].to_string().replace('"', "")).collect::<Vec<_>>())
        };
        assert_eq!(ids("2").expect("a chain"), ["in-a", "out-a", "in-b", "out-b"]);
        store.delete("me", "1").expect("write");
        assert_eq!(ids("2"), None);
    }

    #[test]
    fn the_responses_unused_for_longest_make_room() {
        let store = Store::in_memory(1000).expect("a store");
        for id in 0..100 {
            store.put(&id.to_string(), &stored("me", None, "a")).expect("room");
            // The first is used all the time.
            assert!(store.history("me", "0").expect("read").is_some(), "{id}");
        }
        let there = |id: usize| store.get("me", &id.to_string()).expect("read").is_some();
        let count = (0..100).filter(|id| there(*id)).count();
        assert!((2..20).contains(&count) && there(0) && there(99) && !there(1), "{count}");
        store.put("huge", &stored("me", None, &"x".repeat(2000))).expect("no error");
        assert_eq!(store.get("me", "huge").expect("read"), None);
        assert!(there(99));
    }

    #[test]
    fn a_file_keeps_responses_and_key() {
        let path = std::env::temp_dir().join(format!("ossicle-store-{}", std::process::id()));
        let key = {
            let store = Store::open(&path, 1 << 20).expect("a file");
            store.put("1", &stored("me", None, "a")).expect("room");
            store.key().expect("a key")
        };
        let store = Store::open(&path, 1 << 20).expect("a file");
        assert!(store.get("me", "1").expect("read").is_some());
        assert_eq!(store.key().expect("a key"), key);
        drop(store);
        std::fs::remove_file(&path).expect("the file");
    }
}

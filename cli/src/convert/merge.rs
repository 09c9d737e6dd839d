//! What adapters change in a matrix, added to its rows.

use ossicle_core::model::{Adapter, Change, Config, Place, Role};

/// The changes of the rows of one tensor.
#[derive(Clone, Default)]
pub struct Merge<'w> {
    /// With what each counts.
    changes: Vec<(&'w Change<'w>, f32)>,
    rows_per_expert: usize,
    /// Where among the outputs of the projection its rows begin.
    first: usize,
}

impl<'w> Merge<'w> {
    /// What comes to the rows of a tensor as its file has it: `rows_per_expert` rows of each expert, one expert after another.
    pub fn new(
        adapters: &[(Adapter<'w>, f32)],
        config: &Config,
        (role, layer): (Role, usize),
        rows_per_expert: usize,
    ) -> Self {
        let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let (place, first) = match role {
            Role::QueryKeyValueWeight | Role::QueryWeight => (Place::QueryKeyValue, 0),
            Role::KeyWeight => (Place::QueryKeyValue, queries),
            Role::ValueWeight => (Place::QueryKeyValue, queries + keys),
            Role::AttentionOutputWeight => (Place::AttentionOutput, 0),
            Role::RouterWeight => (Place::Router, 0),
            Role::GateUpWeight | Role::GateWeight => (Place::GateUp, 0),
            Role::UpWeight => (Place::GateUp, config.intermediate),
            Role::DownWeight => (Place::Down, 0),
            _ => return Self::default(),
        };
        let changes = adapters
            .iter()
            .flat_map(|(adapter, weight)| adapter.changes(layer, place).map(move |change| (change, *weight)))
            .collect();
        Self { changes, rows_per_expert, first }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds what comes to rows of `columns` values, whose numbers in the tensor are `rows`.
    pub fn add(&self, rows: impl Iterator<Item = usize> + Clone, columns: usize, values: &mut [f32]) {
        let mut sum = vec![0.0; columns];
        let mut down = Vec::new();
        for (change, weight) in &self.changes {
            let scale = weight * change.scale();
            // The expert whose first half `down` has, [rank, columns].
            let mut read = None;
            for (row, values) in rows.clone().zip(values.chunks_exact_mut(columns)) {
                let (expert, output) = (row / self.rows_per_expert, self.first + row % self.rows_per_expert);
                let (outputs, ..) = change.outputs_within(output, output + 1);
                if outputs.is_empty() {
                    continue;
                }
                if read.replace(expert) != Some(expert) {
                    down.resize(change.rank() * columns, 0.0);
                    let lines = down.chunks_exact_mut(columns).enumerate();
                    lines.for_each(|(number, line)| change.down(expert).read(number, 0, line));
                }
                let up = change.up(expert);
                sum.fill(0.0);
                for (number, line) in down.chunks_exact(columns).enumerate() {
                    let mut factor = [0.0];
                    up.read(number, outputs.start, &mut factor);
                    sum.iter_mut().zip(line).for_each(|(sum, value)| *sum += factor[0] * value);
                }
                values.iter_mut().zip(&sum).for_each(|(value, sum)| *value += scale * sum);
            }
        }
    }
}

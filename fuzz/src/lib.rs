//! What the fuzz targets share: changing recordings without breaking their JSON.

use serde_json::Value;

/// Changes a recording: its lines, or one value in one of them. Bytes changed at random are mostly no JSON any more.
///
/// Returns the new size; `data` holds `size` bytes now and can hold `max_size`.
pub fn mutate_lines(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) << 1 | 1);
    let mut lines: Vec<Value> = data[..size]
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    if lines.len() < 2 || dice.below(16) == 0 {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    for _ in 0..=dice.below(4) {
        change(&mut lines, &mut dice);
    }
    let mut out = Vec::with_capacity(size);
    for line in lines {
        let text = line.to_string();
        if out.len() + text.len() >= max_size {
            break;
        }
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
    data[..out.len()].copy_from_slice(&out);
    out.len()
}

fn change(lines: &mut Vec<Value>, dice: &mut Dice) {
    let (one, other) = (dice.below(lines.len()), dice.below(lines.len()));
    match dice.below(8) {
        0 => lines.swap(one, other),
        1 if lines.len() > 2 => drop(lines.remove(one)),
        2 => {
            let line = lines.remove(one);
            lines.insert(other.min(lines.len()), line);
        }
        3 => {
            let line = lines[one].clone();
            lines.insert(other, line);
        }
        4 => {
            // The same under another task, or at another time.
            let key = ["current", "t_ns", "cpu", "fact"][dice.below(4)];
            if let Some(value) = lines[other].get(key).cloned()
                && let Some(line) = lines[one].as_object_mut()
            {
                line.insert(key.to_owned(), value);
            }
        }
        _ => change_value(lines, one, dice),
    }
}

/// Changes one value into another that stands under the same key somewhere, or into one that is likely to hurt.
fn change_value(lines: &mut [Value], line: usize, dice: &mut Dice) {
    let mut keys = Vec::new();
    collect_keys(&lines[line], &mut keys);
    if keys.is_empty() {
        return;
    }
    let key = keys[dice.below(keys.len())].clone();
    let mut known = Vec::new();
    lines.iter().for_each(|line| collect_values(line, &key, &mut known));
    let new = if dice.below(3) > 0 && !known.is_empty() {
        known[dice.below(known.len())].clone()
    } else {
        odd_value(&known, dice)
    };
    let mut skip = dice.below(3);
    replace(&mut lines[line], &key, &new, &mut skip);
}

fn odd_value(known: &[Value], dice: &mut Dice) -> Value {
    let number = known.iter().find_map(Value::as_u64).unwrap_or(0);
    let numbers = [
        0,
        1,
        2,
        9,
        15,
        64,
        128,
        u64::from(u32::MAX),
        u64::MAX,
        number.wrapping_add(1),
        number.wrapping_sub(1),
    ];
    match dice.below(6) {
        0 => Value::Null,
        1 => Value::from(i64::MIN >> dice.below(63)),
        2 => Value::Bool(dice.below(2) == 0),
        _ => Value::from(numbers[dice.below(numbers.len())]),
    }
}

fn collect_keys(value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                keys.push(key.clone());
                collect_keys(value, keys);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_keys(value, keys)),
        _ => {}
    }
}

fn collect_values(value: &Value, key: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).cloned());
            map.values().for_each(|value| collect_values(value, key, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_values(value, key, found)),
        _ => {}
    }
}

/// Replaces one value under `key`, the first but `skip`.
fn replace(value: &mut Value, key: &str, new: &Value, skip: &mut usize) {
    let Value::Object(map) = value else { return };
    for (name, value) in map.iter_mut() {
        if name == key {
            if *skip == 0 {
                *value = new.clone();
                return;
            }
            *skip -= 1;
        }
        replace(value, key, new, skip);
    }
}

/// Enough chance for a mutation, and the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let roll = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(roll).unwrap_or(0) % limit.max(1)
    }
}

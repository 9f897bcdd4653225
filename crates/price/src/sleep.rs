//! How deep a CPU sleeps while it idles, as far as a recording tells.

use lazytlb_trace::{IdleStateIndex, IdleStates, TlbInIdle};

/// Says how deep a CPU sleeps, or would, if it is idle.
///
/// [`Sleep::Unknown`] until the CPU's first `cpu_idle` event, and always if the machine's idle states are not known: an
/// IPI costs what an IPI to any idle CPU may cost then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sleep {
    /// Nothing tells.
    #[default]
    Unknown,
    /// It is in no idle state: if it is idle, it is on its way into one, or out.
    Awake,
    /// It is in an idle state with a user space loaded, if it has one.
    Light {
        /// The state.
        state: IdleStateIndex,
        /// How long leaving it takes at worst, as stated.
        exit_latency_us: u64,
    },
    /// It is in an idle state that flushes TLBs, and has left its user space before, and every cpumask: no IPI meets it.
    Flushed,
}

impl Sleep {
    /// Says how deep a CPU sleeps after a `cpu_idle` event: with the state that it enters, or `None` as it leaves one.
    ///
    /// Of a state that keeps what is cached, nothing is known unless its latency is.
    pub fn after_event(entered: Option<u32>, cpu: u16, states: &IdleStates) -> Sleep {
        let Some(number) = entered else {
            return Sleep::Awake;
        };
        let Some(index) = IdleStateIndex::new(number) else {
            return Sleep::Unknown;
        };
        let Some(state) = states.state(cpu, index) else {
            return Sleep::Unknown;
        };
        match (state.tlb, state.exit_latency_us) {
            (TlbInIdle::Flushed, _) => Sleep::Flushed,
            (TlbInIdle::Kept, Some(exit_latency_us)) => Sleep::Light {
                state: index,
                exit_latency_us,
            },
            (TlbInIdle::Kept, None) | (TlbInIdle::Unknown, _) => Sleep::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_known_where_latency_and_tlb_are() {
        let text = "idle-driver acpi_idle\nidle-state 0 POLL 0\nidle-state 1 C1 1 desc=ACPI_HLT\nidle-state 2 C2 400\n\
                    idle-state 3 C3 900 tlb=flushed\nidle-state 4 haltpoll_idle 1\n";
        let states = IdleStates::parse(text, "f").unwrap();
        let light = |number, exit_latency_us| Sleep::Light {
            state: IdleStateIndex::new(number).unwrap(),
            exit_latency_us,
        };
        for (entered, expected) in [
            (None, Sleep::Awake),
            (Some(0), light(0, 0)),
            (Some(1), light(1, 1)),
            (Some(2), Sleep::Unknown),
            (Some(3), Sleep::Flushed),
            (Some(4), Sleep::Unknown),
            (Some(5), Sleep::Unknown),
            (Some(10), Sleep::Unknown),
        ] {
            let found = Sleep::after_event(entered, 0, &states);
            assert_eq!(found, expected, "{entered:?}");
        }
    }
}

//! What a CPU may do.

/// What a CPU may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MenuOperation {
    /// Maps a page, with its table if that is absent.
    Map,
    /// Maps the page after it, under the same table.
    MapNext,
    /// Unmaps the page, and frees it.
    Unmap,
    /// Unmaps the page and the one after it with one flush, and frees them.
    UnmapBoth,
    /// Unmaps both likewise, in two parts of one shootdown that is waited for once.
    UnmapTwo,
    /// Unmaps all pages of the table, and frees them and the table.
    Free,
    /// Takes the right to write to the page away.
    Protect,
    /// User code loads from the page.
    Load,
    /// User code stores to the page.
    Touch,
    /// User code stores to the page after it.
    TouchNext,
    /// Switches to the user space.
    Switch,
    /// Goes lazy: from the user space to a kernel thread.
    Lazy,
    /// Flushes everything in the user space.
    FlushAll,
    /// Flushes the page in the user space.
    FlushPage,
    /// Flushes the page after it.
    FlushNext,
    /// Leaves for the kernel's own space, as before a deep idle state.
    Leave,
    /// Gives up the page tables that the CPU holds back and nobody can walk any more.
    Release,
    /// Gives up all page tables that the CPU holds back, and interrupts who could walk them.
    Reclaim,
}

impl MenuOperation {
    /// Every operation.
    pub const ALL: [MenuOperation; 18] = [
        MenuOperation::Map,
        MenuOperation::MapNext,
        MenuOperation::Unmap,
        MenuOperation::UnmapBoth,
        MenuOperation::UnmapTwo,
        MenuOperation::Free,
        MenuOperation::Protect,
        MenuOperation::Load,
        MenuOperation::Touch,
        MenuOperation::TouchNext,
        MenuOperation::Switch,
        MenuOperation::Lazy,
        MenuOperation::FlushAll,
        MenuOperation::FlushPage,
        MenuOperation::FlushNext,
        MenuOperation::Leave,
        MenuOperation::Release,
        MenuOperation::Reclaim,
    ];

    /// Returns the name that people type.
    pub fn name(self) -> &'static str {
        match self {
            MenuOperation::Map => "map",
            MenuOperation::MapNext => "map-next",
            MenuOperation::Unmap => "unmap",
            MenuOperation::UnmapBoth => "unmap-both",
            MenuOperation::UnmapTwo => "unmap-two",
            MenuOperation::Free => "free",
            MenuOperation::Protect => "protect",
            MenuOperation::Load => "load",
            MenuOperation::Touch => "touch",
            MenuOperation::TouchNext => "touch-next",
            MenuOperation::Switch => "switch",
            MenuOperation::Lazy => "lazy",
            MenuOperation::FlushAll => "flush-all",
            MenuOperation::FlushPage => "flush-page",
            MenuOperation::FlushNext => "flush-next",
            MenuOperation::Leave => "leave",
            MenuOperation::Release => "release",
            MenuOperation::Reclaim => "reclaim",
        }
    }

    /// Says in a line what it does, and when it may start.
    pub fn about(self) -> &'static str {
        match self {
            MenuOperation::Map => "map a page of the space, with its table if that is absent",
            MenuOperation::MapNext => "map the page after it, under the same table",
            MenuOperation::Unmap => "unmap the page, flush, and free it",
            MenuOperation::UnmapBoth => "unmap both pages, flush once, and free them",
            MenuOperation::UnmapTwo => {
                "unmap both pages in two parts of one shootdown, wait once, and free them"
            }
            MenuOperation::Free => "unmap what the table maps, flush, and free it and the table",
            MenuOperation::Protect => "make the page read-only, and flush it",
            MenuOperation::Load => "in the space, as a task: user code loads from the page",
            MenuOperation::Touch => "in the space, as a task: user code stores to the page",
            MenuOperation::TouchNext => {
                "in the space, as a task: user code stores to the page after it"
            }
            MenuOperation::Switch => "switch to the space, to a task",
            MenuOperation::Lazy => "as a task: go lazy, to a kernel thread that borrows the space",
            MenuOperation::FlushAll => "flush all of the space",
            MenuOperation::FlushPage => "flush the page in the space",
            MenuOperation::FlushNext => "flush the page after it in the space",
            MenuOperation::Leave => "leave for the kernel's own space, as before a deep idle state",
            MenuOperation::Release => {
                "give up the page tables that the CPU holds back and nobody can walk any more"
            }
            MenuOperation::Reclaim => {
                "give up all page tables that the CPU holds back, and interrupt who could walk them"
            }
        }
    }

    /// Says whether it changes page tables.
    pub fn changes_tables(self) -> bool {
        matches!(
            self,
            MenuOperation::Map
                | MenuOperation::MapNext
                | MenuOperation::Unmap
                | MenuOperation::UnmapBoth
                | MenuOperation::UnmapTwo
                | MenuOperation::Free
                | MenuOperation::Protect
        )
    }
}

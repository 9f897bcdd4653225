/* The scenario reference-3, one seam call a step, in the order of loads and stores of the real code.
 *
 * A guard that reads a word and branches is one step; nothing else may be one, so there is no `else`
 * and no process ends. `true` stands for a call without an effect on the state: interrupts off or on
 * (they are on exactly where INTERRUPTIBLE is), a fence. A register is cleared where the real code's
 * variable is last used. Define one of IPI, INIT_MM_POLICY, IPI_ON_TABLE_FREE, DEFER, and at most one
 * of ACK_FIRST, LEAVE_FIRST, JOIN_LATE, GEN_LATE. */

#include "machine.pml"

/* Shared words; a set has a bit a CPU. Only CPU 0 sends requests: its request, its `unacknowledged`,
 * and its bit in each inbox are the only ones. */
unsigned tlb_gen : 2 = 1;	/* the user space's; init_mm's stays 1 */
unsigned cpumask : 3;
unsigned inbox : 3;
unsigned pending : 3;		/* flush interrupts on their way */
unsigned unacknowledged : 3;
bit request_mm, request_range;
unsigned request_gen : 2;

/* Where the initiator never reads is_lazy it is a variable of the process: SPIN's reduction knows then
 * that its steps commute with the other CPUs'. */
#ifdef DEFER
unsigned lazy_cpus : 3;
#define LAZY_CELL
#define IS_LAZY (lazy_cpus & ME)
#define SET_LAZY lazy_cpus = lazy_cpus | ME
#define CLEAR_LAZY lazy_cpus = lazy_cpus & ~ME
#else
#define LAZY_CELL bit is_lazy;
#define IS_LAZY is_lazy
#define SET_LAZY is_lazy = 1
#define CLEAR_LAZY is_lazy = 0
#endif

#ifdef GEN_LATE
#define GEN_BEFORE(step)
#define GEN_AFTER(step) step;
#else
#define GEN_BEFORE(step) step;
#define GEN_AFTER(step)
#endif
#ifdef JOIN_LATE
#define JOIN_BEFORE(step)
#define JOIN_AFTER(step) step;
#else
#define JOIN_BEFORE(step) step;
#define JOIN_AFTER(step)
#endif
#ifdef LEAVE_FIRST
#define LEAVE_BEFORE(step) step;
#define LEAVE_AFTER(step)
#else
#define LEAVE_BEFORE(step)
#define LEAVE_AFTER(step) ; step
#endif
#ifdef ACK_FIRST
#define ACK_BEFORE(step) step;
#define ACK_AFTER(step)
#else
#define ACK_BEFORE(step)
#define ACK_AFTER(step) ; step
#endif

#define JOIN cpumask = cpumask | ME
#define LEAVE cpumask = cpumask & ~ME
#define FORGET_REQUEST r_mm = 0; r_gen = 0; r_range = 0

inline clear_lazy_if_set() {
	if
	:: IS_LAZY -> CLEAR_LAZY
	:: !IS_LAZY
	fi
}

/* `load`, from init_mm to the user space. */
inline load_user() {
	clear_lazy_if_set();
	JOIN_BEFORE(JOIN)
	GEN_BEFORE(current = tlb_gen)
	d_step { load_cr3(USER) };
	GEN_AFTER(current = tlb_gen)
	JOIN_AFTER(JOIN)
	loaded_mm = USER;
	d_step { flushed_to = current; current = 0 }
}

/* `load`, from the user space to init_mm. */
inline load_init() {
	clear_lazy_if_set();
	LEAVE_BEFORE(LEAVE)
	GEN_BEFORE(current = 1)
	d_step { load_cr3(INIT_MM) };
	GEN_AFTER(current = 1)
	loaded_mm = INIT_MM;
	d_step { flushed_to = current; current = 0 }
	LEAVE_AFTER(LEAVE)
}

inline resume() {
	if
	:: !IS_LAZY
	:: IS_LAZY ->
		CLEAR_LAZY;
		true;	/* fence */
		current = tlb_gen;
		if
		:: d_step { current == flushed_to -> current = 0 }
		:: current != flushed_to ->
			d_step { load_cr3(USER) };
			d_step { flushed_to = current; current = 0 }
		fi
	fi
}

/* From the call after the one that disables interrupts. */
inline switch_to_user() {
	if
	:: loaded_mm == USER -> resume()
	:: loaded_mm != USER -> load_user()
	fi;
	true	/* restore_interrupts */
}

inline enter_lazy() {
	if
	:: loaded_mm == INIT_MM
#ifdef INIT_MM_POLICY
	:: loaded_mm != INIT_MM -> load_init()
#else
	:: loaded_mm != INIT_MM -> SET_LAZY
#endif
	fi;
	true	/* restore_interrupts */
}

inline serve() {
	if
	:: d_step { loaded_mm != r_mm -> FORGET_REQUEST }
	:: loaded_mm == r_mm ->
		if
		:: d_step { IS_LAZY -> FORGET_REQUEST }; load_init()
		:: !IS_LAZY ->
			if
			:: d_step { flushed_to >= r_gen -> FORGET_REQUEST }
			:: flushed_to < r_gen ->
				if
				:: d_step {
					r_range == ONE_PAGE && r_gen == flushed_to + 1 && tlb_gen == r_gen ->
					current = tlb_gen; FORGET_REQUEST
				   };
				   d_step { invlpg() }
				:: d_step {
					!(r_range == ONE_PAGE && r_gen == flushed_to + 1 && tlb_gen == r_gen) ->
					current = tlb_gen; FORGET_REQUEST
				   };
				   d_step { load_cr3(USER) }
				fi;
				d_step { flushed_to = current; current = 0 }
			fi
		fi
	fi
}

inline handle_flush_ipi() {
	if
	:: !(inbox & ME)
	:: d_step { (inbox & ME) != 0 -> inbox = inbox & ~ME };
		r_mm = request_mm;
		r_gen = request_gen;
		r_range = request_range;
		ACK_BEFORE(unacknowledged = unacknowledged & ~ME)
		serve()
		ACK_AFTER(unacknowledged = unacknowledged & ~ME)
	fi
}

/* Interrupts are on before this step. One process a CPU, with the handler inlined: a process of its own
 * would need `provided` clauses, and they switch partial-order reduction off. */
#define INTERRUPTIBLE(step) \
	do \
	:: d_step { (pending & ME) != 0 -> pending = pending & ~ME }; handle_flush_ipi() \
	:: step -> break \
	od

/* Reads is_lazy of the lowest candidate that is left. */
inline spare_if_lazy(cpus) {
	targets = targets | ((cpus) & ~lazy_cpus);
	candidates = candidates & ~(cpus)
}

inline choose_targets() {
#ifdef DEFER
	candidates = cpumask & ~CPU0;
	do
	:: d_step { (candidates & CPU1) != 0 -> spare_if_lazy(CPU1) }
	:: d_step { candidates == CPU2 -> spare_if_lazy(CPU2) }
	:: candidates == 0 && targets == 0 -> goto local_part
	:: d_step { candidates == 0 && targets != 0 -> request_mm = r_mm }; break
	od
#else
	targets = cpumask & ~CPU0;
	if
	:: targets == 0 -> goto local_part
	:: d_step { targets != 0 -> request_mm = r_mm }
	fi
#endif
}

/* The last step of a flush is also its return: what it covered is tainted. */
inline flush() {
	d_step { tlb_gen = tlb_gen + 1; r_mm = USER; r_gen = tlb_gen; r_range = ONE_PAGE };
	choose_targets();
	request_gen = r_gen;
	request_range = r_range;
	unacknowledged = targets;
	if
	:: d_step { (targets & CPU1) != 0 -> inbox = inbox | CPU1 };
		if
		:: d_step { (targets & CPU2) != 0 -> inbox = inbox | CPU2 };
			pending = pending | targets
		:: d_step { !(targets & CPU2) -> pending = pending | targets }
		fi
	:: d_step { !(targets & CPU1) -> inbox = inbox | CPU2 };
		pending = pending | targets
	fi;
	true;	/* disable_interrupts: without targets, the guard that came here */
local_part:
	serve();
	if
	:: targets != 0 ->
		d_step { unacknowledged == 0 -> targets = 0; flush_returned() }
	:: d_step { targets == 0 -> flush_returned() }
	fi
}

/* CPU 0. Nobody interrupts it. */
active proctype Mapper() {
	LAZY_CELL
	bit loaded_mm = INIT_MM;	/* words of this CPU alone */
	unsigned flushed_to : 2;
	unsigned current : 2;		/* registers */
	bit r_mm, r_range;
	unsigned r_gen : 2;
	unsigned targets : 3;
#ifdef DEFER
	unsigned candidates : 3;
#endif
	bit second_round;

	true;	/* disable_interrupts */
	switch_to_user();
round:
	if
	:: d_step { !second_round -> alloc_page() }; d_step { alloc_table() }
	:: d_step { second_round -> alloc_table() }; d_step { alloc_page() }
	fi;
	d_step { map_page() };
	d_step { map_table() };
	d_step { unmap_page() };
	d_step { unmap_table() };
	flush();
	d_step { free_page() };
	if
	:: d_step { !second_round -> free_table(); second_round = 1 }; goto round
	:: d_step { second_round -> free_table() }
	fi;
end:	false
}

/* CPUs 1 and 2. */
active [2] proctype UserOfPage() {
	LAZY_CELL
	bit loaded_mm = INIT_MM;
	unsigned flushed_to : 2;
	unsigned current : 2;
	bit r_mm, r_range;
	unsigned r_gen : 2;

	INTERRUPTIBLE(true);
	switch_to_user();
	INTERRUPTIBLE(d_step { touch() });
	INTERRUPTIBLE(true);
	enter_lazy();
	INTERRUPTIBLE(true);
	switch_to_user();
	INTERRUPTIBLE(d_step { touch() });
end:	do
	:: d_step { (pending & ME) != 0 -> pending = pending & ~ME }; handle_flush_ipi()
	od
}

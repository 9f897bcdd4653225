/* The scenario reference-3, one transaction a step: the fewest states that hand work gives SPIN.
 *
 * A transaction is steps of one CPU that commute to the right past the steps of other CPUs, then at
 * most one that does not commute, then steps that commute to the left (Lipton's reduction). A step may
 * commute up to a *superset* of what is cached and tainted: control does not depend on the caches, both
 * properties are monotone in them, and every run of transactions is a real run. The reasons:
 *   interrupts off and on, own words, fence     no other CPU sees them
 *   is_lazy                                     read by the initiator under DEFER only
 *   present entry written                       others add what is mapped after either order
 *   entry removed                               right: others have cached more meanwhile
 *   alloc                                       nobody reaches a free frame
 *   request, inbox; IPI                         no handler looks before the IPI; left: it only enables
 *   taint, free                                 left, after the wait: nobody adds an unhooked frame
 *   CR3 load                                    into the user space left, to init_mm right;
 *                                               within the user space it moves neither way
 *   touch                                       right: nobody else removes an entry or a taint
 *   the whole handler                           the initiator waits meanwhile: this is asserted
 * Define one of IPI, INIT_MM_POLICY, IPI_ON_TABLE_FREE, DEFER. */

#include "machine.pml"

#if defined(ACK_FIRST) || defined(LEAVE_FIRST) || defined(JOIN_LATE) || defined(GEN_LATE)
#error "a seeded bug may break what the transactions rely on: use reference-3-equal.pml"
#endif

/* Shared words, as in reference-3-equal.pml. */
unsigned tlb_gen : 2 = 1;
unsigned cpumask : 3;
unsigned inbox : 3;
unsigned pending : 3;
unsigned unacknowledged : 3;
bit request_mm, request_range;
unsigned request_gen : 2;

#ifdef DEFER
unsigned lazy_cpus : 3;
#define IS_LAZY (lazy_cpus & ME)
#define SET_LAZY lazy_cpus = lazy_cpus | ME
#define CLEAR_LAZY lazy_cpus = lazy_cpus & ~ME
#else
#define IS_LAZY is_lazy
#define SET_LAZY is_lazy = 1
#define CLEAR_LAZY is_lazy = 0
#endif

inline set_loaded(mm, tlb_generation) {
	loaded_mm = mm;
	flushed_to = tlb_generation
}

inline leave_for_init() {
	CLEAR_LAZY;
	load_cr3(INIT_MM);
	set_loaded(INIT_MM, 1);
	cpumask = cpumask & ~ME
}

inline invalidate(gen, range) {
	if
	:: range == ONE_PAGE && gen == flushed_to + 1 && tlb_gen == gen -> invlpg()
	:: else -> load_cr3(USER)
	fi;
	flushed_to = tlb_gen
}

inline handle_flush_ipi() {
	pending = pending & ~ME;
	waiting_initiator = (unacknowledged & ME) != 0;
	assert(waiting_initiator);
	assert(inbox & ME);
	inbox = inbox & ~ME;
	if
	:: loaded_mm != request_mm
	:: else ->
		if
		:: IS_LAZY -> leave_for_init()
		:: else ->
			if
			:: flushed_to >= request_gen
			:: else -> invalidate(request_gen, request_range)
			fi
		fi
	fi;
	unacknowledged = unacknowledged & ~ME
}

/* Interrupts are on before this step, which ends with its own way out: SPIN takes a `break` to a d_step
 * for a jump into one, and gives a loop that follows a d_step and a `break` a second control state. */
#define INTERRUPTIBLE(step) \
	do \
	:: d_step { (pending & ME) != 0 -> handle_flush_ipi() } \
	:: step \
	od

#define ENTER_USER d_step { set_loaded(USER, tlb_gen); CLEAR_LAZY; load_cr3(USER) }

/* Comes back to the user space, wherever the lazy stay ended. */
inline come_back() {
lazy:
	do
	:: d_step { (pending & ME) != 0 -> handle_flush_ipi() }
	:: d_step { loaded_mm == INIT_MM -> cpumask = cpumask | ME };
		ENTER_USER;
		break
#ifdef DEFER
	:: d_step { loaded_mm == USER -> assert(IS_LAZY); CLEAR_LAZY };
		if
		:: tlb_gen == flushed_to
		:: d_step { tlb_gen != flushed_to -> current = tlb_gen };
			d_step { load_cr3(USER); flushed_to = current; current = 0 }
		fi;
		break
#else
	:: d_step { loaded_mm == USER && tlb_gen == flushed_to -> assert(IS_LAZY); CLEAR_LAZY };
		break
	:: d_step { loaded_mm == USER && tlb_gen != flushed_to ->
			assert(IS_LAZY); CLEAR_LAZY; current = tlb_gen };
		d_step { load_cr3(USER); flushed_to = current; current = 0 };
		break
#endif
	od
}

inline notify(cpus) {
	request_mm = USER;
	request_gen = tlb_gen;
	request_range = ONE_PAGE;
	targets = cpus;
	unacknowledged = cpus;
	inbox = inbox | (cpus);
	pending = pending | (cpus);
	serve_oneself()
}

/* CPU 0 is never lazy, and its own handler never runs. */
inline serve_oneself() { invalidate(tlb_gen, ONE_PAGE) }

inline unmap_and_raise() {
	unmap_page();
	unmap_table();
	tlb_gen = tlb_gen + 1
}

/* The flush has returned: free, and map for the second round. */
inline free_and_map() {
	flush_returned();
	free_page();
	free_table();
	if
	:: second_round
	:: else -> alloc_table(); alloc_page(); map_page(); map_table()
	fi
}

#define OTHERS (cpumask & ~CPU0)
#define NOT_LAZY (candidates & ~lazy_cpus)

/* CPU 0. Nobody interrupts it. */
active proctype Mapper() {
	unsigned flushed_to : 2;
	unsigned targets : 3;
	bit second_round;
#ifdef DEFER
	unsigned candidates : 3;
#endif

	d_step {
		cpumask = cpumask | ME;
		load_cr3(USER);
		flushed_to = tlb_gen;
		alloc_page();
		alloc_table();
		map_page();
		map_table();
		unmap_and_raise()
	};
flush:
	if
	:: d_step { OTHERS == 0 -> serve_oneself(); free_and_map() };
		goto end
#ifdef DEFER
	:: d_step { OTHERS != 0 -> candidates = OTHERS };
		do
		:: d_step { candidates == (CPU1 | CPU2) ->
				targets = CPU1 & ~lazy_cpus; candidates = CPU2 }
		:: d_step { candidates != (CPU1 | CPU2) && (targets | NOT_LAZY) == 0 ->
				candidates = 0; serve_oneself(); free_and_map() };
			goto end
		:: d_step { candidates != (CPU1 | CPU2) && (targets | NOT_LAZY) != 0 ->
				targets = targets | NOT_LAZY; candidates = 0; notify(targets) };
			goto wait
		od
#else
	:: d_step { OTHERS != 0 -> notify(OTHERS) }
#endif
	fi;
wait:	if
	:: d_step { unacknowledged == 0 -> targets = 0; free_and_map() }
	fi;
end:	if
	:: d_step { !second_round -> unmap_and_raise(); second_round = 1 };
		goto flush
	fi
}

/* CPUs 1 and 2. */
active [2] proctype UserOfPage() {
	bit loaded_mm = INIT_MM;
	unsigned flushed_to : 2;
#ifndef DEFER
	bit is_lazy;
#endif
	unsigned current : 2;

	INTERRUPTIBLE(cpumask = cpumask | ME; ENTER_USER; break);
#ifdef INIT_MM_POLICY
	INTERRUPTIBLE(d_step { touch(); leave_for_init() }; goto lazy);
#else
	/* The interrupt between the two may as well come before: the touch changes nothing. */
	INTERRUPTIBLE(d_step { touch(); SET_LAZY }; goto lazy);
#endif
	come_back();
	INTERRUPTIBLE(d_step { touch() }; break);
end:	do
	:: d_step { (pending & ME) != 0 -> handle_flush_ipi() }
	od
}

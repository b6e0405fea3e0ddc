/*
 * memory.h
 *	  What the process keeps of its memory between calls.
 */
#ifndef PFA_MEMORY_H
#define PFA_MEMORY_H

/*
 * Have malloc keep what a page takes, from now on in this process: for whoever
 * is about to make an answer, or to take one from the cache.  Costs nothing
 * after the first time.
 */
extern void pfa_keep_memory(void);

#endif /* PFA_MEMORY_H */

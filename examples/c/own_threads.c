/*
 * A program with a job system of its own, which Ossicle borrows.
 *
 *     own_threads MODEL [QUESTION]
 *
 * Ossicle starts no thread. It hands the host a job; the host runs it on as many threads as it likes, each once or more often
 * or never, and returns when all are back. The work is shared out inside the job. So any job system will do, and so will one
 * that is busy: what its threads do not do, the calling thread does. The answer is the same, bit for bit, however many help.
 *
 * A token takes about a hundred jobs of some ten microseconds each: a system that sleeps between them, as this one does for
 * the sake of brevity, should look for the next job for a while before it does.
 */
#include <ossicle.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { WORKERS = 3 };

typedef struct job_system {
    pthread_t threads[WORKERS];
    pthread_mutex_t lock;
    pthread_cond_t job_is_there, job_is_done;
    ossicle_job job; /* null: the end */
    void *job_data;
    unsigned jobs; /* begun so far: how a worker knows a new one */
    unsigned busy; /* workers still at it */
} job_system;

static void *work(void *data) {
    job_system *system = data;
    unsigned seen = 0;
    pthread_mutex_lock(&system->lock);
    for (;;) {
        while (system->jobs == seen)
            pthread_cond_wait(&system->job_is_there, &system->lock);
        seen = system->jobs;
        const ossicle_job job = system->job;
        void *job_data = system->job_data;
        pthread_mutex_unlock(&system->lock);
        if (job == NULL)
            return NULL;
        job(job_data);
        pthread_mutex_lock(&system->lock);
        if (--system->busy == 0)
            pthread_cond_signal(&system->job_is_done);
    }
}

static void begin(job_system *system, ossicle_job job, void *job_data) {
    pthread_mutex_lock(&system->lock);
    system->job = job;
    system->job_data = job_data;
    system->busy = WORKERS;
    system->jobs++;
    pthread_cond_broadcast(&system->job_is_there);
    pthread_mutex_unlock(&system->lock);
}

/* The callback. Its one duty: not to return before everybody has left the job. */
static void run(void *data, ossicle_job job, void *job_data) {
    job_system *system = data;
    begin(system, job, job_data);
    job(job_data);
    pthread_mutex_lock(&system->lock);
    while (system->busy > 0)
        pthread_cond_wait(&system->job_is_done, &system->lock);
    pthread_mutex_unlock(&system->lock);
}

int main(int argc, char **argv) {
    static job_system system = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                .job_is_there = PTHREAD_COND_INITIALIZER,
                                .job_is_done = PTHREAD_COND_INITIALIZER};
    for (int index = 0; index < WORKERS; index++)
        if (pthread_create(&system.threads[index], NULL, work, &system) != 0)
            return 1;
    const ossicle_host host = {.struct_size = sizeof host, .workers = WORKERS, .data = &system, .parallel = run};

    ossicle_error error = {.struct_size = sizeof error, .text = "own_threads MODEL [QUESTION]"};
    ossicle_chat_config config = {.struct_size = sizeof config, .threads = 1};
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .max_tokens = 60,
                                        .reasoning = OSSICLE_REASONING_LIMITED,
                                        .reasoning_tokens = 20};
    const char *question = argc > 2 ? argv[2] : "Who does the work?";
    ossicle_chat *chat = NULL;
    if (argc < 2 || ossicle_chat_open(argv[1], &config, &chat, &error) < 0
        || ossicle_chat_ask(chat, (ossicle_text){question, strlen(question)}, &answer, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;

    /* The chat's own threads are left aside: the turn computes on ours. */
    ossicle_generation *generation;
    ossicle_turn *turn;
    ossicle_host unused = {.struct_size = sizeof unused};
    ossicle_chat_parts(chat, &generation, &turn, &unused);
    const ossicle_event *event;
    int32_t status;
    while ((status = ossicle_turn_next(turn, &host, &event, &error)) == OSSICLE_MORE)
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);

    fprintf(stderr, "\n%u jobs on %d threads\n", system.jobs, WORKERS + 1);
    begin(&system, NULL, NULL);
    for (int index = 0; index < WORKERS; index++)
        pthread_join(system.threads[index], NULL);
    return ossicle_chat_close(chat) < 0 || status < 0;
}

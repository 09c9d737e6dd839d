/* What a host lends to a chat: chat_host TOY. The toy model calls the tool that a question is about. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

/* What the callbacks are to do, and what they have seen. */
typedef struct lent {
    uint32_t on; /* the subject that the verdict is for; all others pass */
    uint32_t verdict;
    const char *other;
    int32_t status;
    const char *result;
    uint32_t cancels; /* the subject that is answered by a cancel too */
    int is_stale; /* the texts that need not be read are nowhere */
    uint32_t max_tokens;
    int calls;
    char seen[512];
    ossicle_chat *chat;
} lent;

/* A text that ends the program if it is read. */
static const ossicle_text NOWHERE = {(const char *)64, 64};

static void note(lent *lent, const char *what, ossicle_text text) {
    const size_t size = strlen(lent->seen);
    CHECK(size + strlen(what) + text.size + 3 < sizeof lent->seen);
    snprintf(lent->seen + size, sizeof lent->seen - size, "%s %.*s;", what, (int)text.size, text.start);
}

static uint32_t judge(void *data, const ossicle_subject *subject, ossicle_text *other) {
    static const char *const names[] = {"", "prompt", "call", "result", "answer"};
    lent *lent = data;
    const int is_of_tool = subject->kind == OSSICLE_SUBJECT_TOOL_CALL || subject->kind == OSSICLE_SUBJECT_TOOL_RESULT;
    CHECK(is_of_tool == (subject->tool.start != NULL) && other->start == NULL);
    CHECK(!is_of_tool || (subject->tool.size == 19 && memcmp(subject->tool.start, "functions.open_door", 19) == 0));
    note(lent, names[subject->kind], subject->text);
    /* A callback cannot use the chat that calls it. */
    const ossicle_event *event;
    CHECK(ossicle_chat_next(lent->chat, &event, NULL) == OSSICLE_ERROR_BUSY);
    if (subject->kind == lent->cancels)
        CHECK(ossicle_chat_cancel(lent->chat) == OSSICLE_OK);
    if (subject->kind != lent->on) {
        if (lent->is_stale)
            *other = NOWHERE;
        return OSSICLE_VERDICT_ALLOW;
    }
    if (lent->other != NULL)
        *other = text_of(lent->other);
    return lent->verdict;
}

static int32_t open_door(void *data, ossicle_text tool, ossicle_text argument, ossicle_text *result) {
    lent *lent = data;
    CHECK(tool.size == 19);
    note(lent, "open", argument);
    lent->calls++;
    if (lent->is_stale && lent->status != 0)
        *result = NOWHERE;
    else if (lent->result != NULL)
        *result = text_of(lent->result);
    return lent->status;
}

/* What became of an answer. */
typedef struct told {
    char text[256];
    char argument[256];
    char reason[256];
    int begun, ended;
    ossicle_event stop;
} told;

static void append(char *text, ossicle_text part) {
    const size_t size = strlen(text);
    CHECK(size + part.size < 256);
    memcpy(text + size, part.start, part.size);
    text[size + part.size] = '\0';
}

static told ask(lent *lent, const char *question) {
    const ossicle_text callable = text_of("functions.open_door");
    const ossicle_sampler_config likeliest = {.struct_size = sizeof likeliest, .greedy = 1};
    const ossicle_turn_config config = {.struct_size = sizeof config,
                                        .max_tokens = lent->max_tokens,
                                        .sampler = &likeliest,
                                        .recipients = &callable,
                                        .recipient_count = 1};
    told told = {.text = ""};
    const ossicle_event *event;
    int32_t status;
    lent->seen[0] = '\0';
    lent->calls = 0;
    CHECK(ossicle_chat_ask(lent->chat, text_of(question), &config, &error) == OSSICLE_OK);
    while ((status = ossicle_chat_next(lent->chat, &event, &error)) == OSSICLE_MORE) {
        CHECK(told.stop.kind == 0);
        const int is_reasoning = event->message == OSSICLE_MESSAGE_REASONING;
        told.begun += event->kind == OSSICLE_EVENT_MESSAGE_BEGIN && !is_reasoning;
        told.ended += event->kind == OSSICLE_EVENT_MESSAGE_END && !is_reasoning;
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            append(told.text, event->text);
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_TOOL_CALL)
            append(told.argument, event->text);
        if (event->kind == OSSICLE_EVENT_STOP) {
            told.stop = *event;
            if (event->text.start != NULL)
                append(told.reason, event->text);
        }
    }
    CHECK(status == OSSICLE_OK && told.stop.kind == OSSICLE_EVENT_STOP && told.begun == told.ended);
    CHECK((told.stop.reason == OSSICLE_STOP_POLICY) == (told.reason[0] != '\0'));
    return told;
}

#define SAYS(text, expected) CHECK(strcmp(text, expected) == 0)

static const char *const QUESTION = "Open the green gate.";
static const char *const ARGUMENT = "{\"door\":\"green gate\"}";
static const char *const DONE = "Done: I opened the green gate.";

static void open_chat(lent *lent, const char *path) {
    const ossicle_tool tool = {
        .struct_size = sizeof tool,
        .name = text_of("open_door"),
        .description = text_of("Opens a door."),
        .parameters = text_of("{\"type\":\"object\",\"properties\":{\"door\":{\"type\":\"string\",\"description\":"
                              "\"What to open.\"}},\"required\":[\"door\"]}"),
    };
    const ossicle_developer developer = {.struct_size = sizeof developer, .tools = &tool, .tool_count = 1};
    const ossicle_chat_config config = {.struct_size = sizeof config, .threads = 1, .developer = &developer};
    *lent = (struct lent){.result = "{\"ok\":true}", .max_tokens = 200};
    CHECK(ossicle_chat_open(path, &config, &lent->chat, &error) == OSSICLE_OK);
}

static void lend(lent *lent, ossicle_policy policy, ossicle_tool_handler tool) {
    const ossicle_chat_host host = {.struct_size = sizeof host, .data = lent, .policy = policy, .tool = tool};
    CHECK(ossicle_chat_lend(lent->chat, &host, &error) == OSSICLE_OK);
}

/* The host carries the call out, and the answer goes on. */
static void tools(const char *path) {
    lent lent;
    open_chat(&lent, path);
    lend(&lent, NULL, open_door);
    const told whole = ask(&lent, QUESTION);
    SAYS(whole.text, DONE);
    SAYS(whole.argument, ARGUMENT);
    CHECK(lent.calls == 1 && whole.stop.reason == OSSICLE_STOP_FINISHED && whole.stop.output_tokens > 40);
    /* With a policy that allows all of it, the same. */
    ossicle_chat_close(lent.chat);
    open_chat(&lent, path);
    lend(&lent, judge, open_door);
    const told judged = ask(&lent, QUESTION);
    SAYS(judged.text, DONE);
    CHECK(judged.stop.output_tokens == whole.stop.output_tokens && judged.stop.input_tokens == whole.stop.input_tokens);
    SAYS(lent.seen, "prompt Open the green gate.;call {\"door\":\"green gate\"};open {\"door\":\"green gate\"};"
                    "result {\"ok\":true};answer Done: I opened the green gate.;");
    /* With nothing lent any more, nothing is asked any more. */
    lent.seen[0] = '\0';
    CHECK(ossicle_chat_lend(lent.chat, NULL, &error) == OSSICLE_OK);
    CHECK(ask(&lent, "Open the blue door.").stop.reason == OSSICLE_STOP_TOOL_CALL);
    SAYS(lent.seen, "");
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    /* A call that the host leaves to the program ends the answer. */
    open_chat(&lent, path);
    lent.status = 1;
    lent.is_stale = 1;
    lend(&lent, judge, open_door);
    CHECK(ask(&lent, QUESTION).stop.reason == OSSICLE_STOP_TOOL_CALL && lent.calls == 1);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    open_chat(&lent, path);
    lend(&lent, judge, NULL);
    CHECK(ask(&lent, QUESTION).stop.reason == OSSICLE_STOP_TOOL_CALL && lent.calls == 0);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    /* What was cancelled before it was carried out is not carried out. */
    open_chat(&lent, path);
    lent.cancels = OSSICLE_SUBJECT_TOOL_CALL;
    lend(&lent, judge, open_door);
    CHECK(ask(&lent, QUESTION).stop.reason == OSSICLE_STOP_CANCELLED && lent.calls == 0);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
}

/* The tokens of an answer are those of all its turns, and a message that they cut is judged as far as it came. */
static void limits(const char *path) {
    lent lent;
    open_chat(&lent, path);
    lend(&lent, NULL, open_door);
    const uint32_t whole = ask(&lent, QUESTION).stop.output_tokens;
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    open_chat(&lent, path);
    lent.status = 1;
    lend(&lent, NULL, open_door);
    const uint32_t first = ask(&lent, QUESTION).stop.output_tokens;
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    CHECK(first > 2 && whole - first > 2);
    /* A call after which nothing could be said is the program's. */
    open_chat(&lent, path);
    lent.max_tokens = first;
    lend(&lent, NULL, open_door);
    CHECK(ask(&lent, QUESTION).stop.reason == OSSICLE_STOP_TOOL_CALL && lent.calls == 0);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    open_chat(&lent, path);
    lent.max_tokens = whole - 2;
    lend(&lent, judge, open_door);
    const told cut = ask(&lent, QUESTION);
    CHECK(cut.stop.reason == OSSICLE_STOP_MAX_TOKENS && cut.stop.output_tokens == whole - 2 && lent.calls == 1);
    const char *judged = strstr(lent.seen, "answer ");
    CHECK(judged != NULL && cut.text[0] != '\0' && strlen(cut.text) < strlen(DONE));
    CHECK(strncmp(cut.text, DONE, strlen(cut.text)) == 0 && strncmp(judged + 7, cut.text, strlen(cut.text)) == 0);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
}

/* What is refused. */
static void refusals(const char *path) {
    lent lent;
    open_chat(&lent, path);
    const ossicle_chat_host host = {.struct_size = sizeof host, .reserved = 1};
    CHECK(ossicle_chat_lend(lent.chat, &host, &error) == OSSICLE_ERROR_ARGUMENT);
    lent.result = "\xff";
    lend(&lent, NULL, open_door);
    const ossicle_text callable = text_of("functions.open_door");
    const ossicle_sampler_config likeliest = {.struct_size = sizeof likeliest, .greedy = 1};
    const ossicle_turn_config config = {
        .struct_size = sizeof config, .sampler = &likeliest, .recipients = &callable, .recipient_count = 1};
    const ossicle_event *event;
    int32_t status;
    CHECK(ossicle_chat_ask(lent.chat, text_of(QUESTION), &config, &error) == OSSICLE_OK);
    while ((status = ossicle_chat_next(lent.chat, &event, &error)) == OSSICLE_MORE) {
    }
    CHECK(status == OSSICLE_ERROR_ARGUMENT && lent.calls == 1);
    CHECK(ossicle_chat_next(lent.chat, &event, &error) == OSSICLE_OK);
    CHECK(ask(&lent, "What is 2 + 3?").stop.reason == OSSICLE_STOP_FINISHED);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
}

/* What a verdict on one subject makes of the answer. */
static told judged(const char *path, uint32_t on, uint32_t verdict, const char *other, int *calls) {
    lent lent;
    open_chat(&lent, path);
    lent.on = on;
    lent.verdict = verdict;
    lent.other = other;
    lend(&lent, judge, open_door);
    const told told = ask(&lent, QUESTION);
    *calls = lent.calls;
    /* The chat goes on, whatever was stopped. */
    lent.verdict = OSSICLE_VERDICT_ALLOW;
    CHECK(ask(&lent, "What is 2 + 3?").stop.reason != OSSICLE_STOP_POLICY);
    CHECK(ossicle_chat_close(lent.chat) == OSSICLE_OK);
    return told;
}

static void verdicts(const char *path) {
    int calls;
    told told = judged(path, OSSICLE_SUBJECT_PROMPT, OSSICLE_VERDICT_STOP, "no gates", &calls);
    CHECK(told.stop.output_tokens == 0 && told.begun == 0 && calls == 0);
    SAYS(told.reason, "no gates");
    told = judged(path, OSSICLE_SUBJECT_PROMPT, OSSICLE_VERDICT_REPLACE, "Who are you?", &calls);
    CHECK(told.stop.reason == OSSICLE_STOP_FINISHED && calls == 0 && strstr(told.text, "toy model") != NULL);
    told = judged(path, OSSICLE_SUBJECT_TOOL_CALL, OSSICLE_VERDICT_STOP, NULL, &calls);
    CHECK(told.stop.output_tokens > 0 && told.argument[0] == '\0' && calls == 0);
    SAYS(told.reason, "the policy");
    told = judged(path, OSSICLE_SUBJECT_TOOL_CALL, OSSICLE_VERDICT_REPLACE, "{}", &calls);
    CHECK(calls == 1);
    SAYS(told.argument, "{}");
    told = judged(path, OSSICLE_SUBJECT_TOOL_RESULT, OSSICLE_VERDICT_STOP, "not that", &calls);
    CHECK(calls == 1 && told.text[0] == '\0' && told.stop.output_tokens > 0);
    told = judged(path, OSSICLE_SUBJECT_ANSWER, OSSICLE_VERDICT_REPLACE, "It is open.", &calls);
    SAYS(told.text, "It is open.");
    told = judged(path, OSSICLE_SUBJECT_ANSWER, OSSICLE_VERDICT_STOP, "not that", &calls);
    CHECK(told.text[0] == '\0');
    /* What is no verdict stops, and so does a text that is none. */
    told = judged(path, OSSICLE_SUBJECT_ANSWER, 77, NULL, &calls);
    SAYS(told.reason, "the policy");
    told = judged(path, OSSICLE_SUBJECT_ANSWER, OSSICLE_VERDICT_REPLACE, NULL, &calls);
    SAYS(told.reason, "the policy gave no text");
    told = judged(path, OSSICLE_SUBJECT_ANSWER, OSSICLE_VERDICT_REPLACE, "\xff", &calls);
    SAYS(told.reason, "the policy gave no text");
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    tools(argv[1]);
    limits(argv[1]);
    refusals(argv[1]);
    verdicts(argv[1]);
    return 0;
}

"""An example of each method, for the reference: `python docs/reference.py` reads this file."""

# workflows.list
workflows = client.workflows.list(per_page=2)["data"]
print([workflow["id"] for workflow in workflows])  # ['wf_123', 'wf_abc123']

# workflows.iterate
print([workflow["name"] for workflow in client.workflows.iterate()][0])  # Hello

# workflows.get
print(client.workflows.get("wf_123")["data"]["name"])  # Hello

# workflows.execute
started = client.workflows.execute("wf_123", inputs={"name": "Ada"})
print(started["data"]["status"])  # pending

# workflows.run
run = client.workflows.run("wf_123", inputs={"name": "Ada"})
print(run["outputs"])  # {'message': 'Hello, Ada!'}

# workflows.run_many
rows = [{"name": "Ada"}, {"name": "Bob"}]
outcomes = client.workflows.run_many("wf_123", rows, ordered=True)
print([outcome.ok for outcome in outcomes])  # [True, True]

# executions.list
page = client.executions.list(workflow_id="wf_123", per_page=5)
print(len(page["data"]))  # 5

# executions.iterate
failed = client.executions.iterate(workflow_id="wf_123", status="failed")
print(sum(1 for _ in failed))  # 0

# executions.get
print(client.executions.get("exec_xyz789")["data"]["id"])  # exec_xyz789

# executions.cancel
started = client.workflows.execute("wf_123")
cancelled = client.executions.cancel(started["data"]["execution_id"])
print(cancelled["data"]["status"])  # cancelled

# executions.wait_for_completion
execution = client.executions.wait_for_completion("exec_xyz789", timeout=60)
print(execution["status"])  # completed

# executions.wait_many
ids = [client.workflows.execute("wf_123")["data"]["execution_id"] for _ in range(3)]
print([outcome.ok for outcome in client.executions.wait_many(ids)])  # [True, True, True]

# executions.stream
for event in client.executions.stream("exec_xyz789"):
    if event["type"] == "execution:completed":
        print(event["execution_id"])  # exec_xyz789

# agents.list
print([agent["id"] for agent in client.agents.list()["data"]][0])  # agent_abc123

# agents.iterate
print(next(client.agents.iterate())["id"])  # agent_abc123

# agents.get
print(client.agents.get("agent_abc123")["data"]["id"])  # agent_abc123

# agents.create_thread
thread = client.agents.create_thread("agent_abc123", metadata={"ticket": "T-1"})
print(thread["data"]["status"])  # active

# agents.list_memory
memories = client.agents.list_memory("agent_abc123")["data"]
print([memory["user_id"] for memory in memories])  # ['user_456', 'user_789']

# agents.iterate_memory
memories = client.agents.iterate_memory("agent_abc123")
print([memory["user_id"] for memory in memories])  # ['user_456', 'user_789']

# agents.get_memory
user = "6f1c2a34-0000-4000-8000-000000000001"
client.agents.update_memory("agent_abc123", user, working_memory="Prefers short answers.")
memory = client.agents.get_memory("agent_abc123", user)["data"]
print(memory["working_memory"])  # Prefers short answers.

# agents.update_memory
user = "6f1c2a34-0000-4000-8000-000000000001"
memory = client.agents.update_memory("agent_abc123", user, working_memory="Speaks French.")
print(memory["data"]["working_memory"])  # Speaks French.

# agents.delete_memory
user = "6f1c2a34-0000-4000-8000-000000000001"
client.agents.update_memory("agent_abc123", user, working_memory="Speaks French.")
print(client.agents.delete_memory("agent_abc123", user)["data"]["deleted"])  # True

# agents.search_memory
found = client.agents.search_memory("agent_abc123", "order", top_k=1)
print(found["data"]["results"][0]["content"])  # Thank you for your order! How can I help?

# agents.memory_stats
print(client.agents.memory_stats("agent_abc123")["data"]["working_memory_count"])  # 2

# threads.get
print(client.threads.get("thread_xyz789")["data"]["status"])  # active

# threads.delete
print(client.threads.delete("thread_xyz789")["data"]["deleted"])  # True

# threads.list_messages
messages = client.threads.list_messages("thread_xyz789")["data"]
print([message["role"] for message in messages])  # ['user', 'assistant']

# threads.iterate_messages
messages = client.threads.iterate_messages("thread_xyz789")
print([message["role"] for message in messages])  # ['user', 'assistant']

# threads.send_message
reply = client.threads.send_message("thread_xyz789", "What is my order status?")
print(reply["data"]["content"])  # Your order has shipped and should arrive on Thursday.

# threads.send_message_stream
answer = client.threads.send_message_stream("thread_xyz789", "What is my order status?")
print("".join(answer.text()))  # Your order has shipped and should arrive on Thursday.

# threads.stream
from flowmaestro import NotFoundError

try:
    for event in client.threads.stream("thread_xyz789"):
        print(event["type"])
        break
except NotFoundError:
    print("this server does not have the route")  # this server does not have the route

# triggers.list
triggers = client.triggers.list(workflow_id="wf_123")["data"]
print([trigger["name"] for trigger in triggers])  # ['Order placed', 'Every morning', 'Old form']

# triggers.iterate
enabled = [trigger for trigger in client.triggers.iterate() if trigger["enabled"]]
print(enabled[0]["name"])  # User signed up

# triggers.execute
fired = client.triggers.execute("trigger_abc123", inputs={"name": "Ada"})
print(fired["data"]["status"])  # pending

# knowledge_bases.list
bases = client.knowledge_bases.list()["data"]
print([base["id"] for base in bases])  # ['kb_abc123', 'kb_123']

# knowledge_bases.iterate
print(next(client.knowledge_bases.iterate())["id"])  # kb_abc123

# knowledge_bases.get
print(client.knowledge_bases.get("kb_abc123")["data"]["id"])  # kb_abc123

# knowledge_bases.query
found = client.knowledge_bases.query("kb_abc123", "How do I reset my password?", top_k=1)
print(found["data"]["results"][0]["document_name"])  # passwords.md

# webhooks.list
print([webhook["name"] for webhook in client.webhooks.list()["data"]])  # ['Order desk', 'Audit']

# webhooks.iterate
print(sum(1 for _ in client.webhooks.iterate()))  # 2

# webhooks.get
print(client.webhooks.get("wh_abc123")["data"]["id"])  # wh_abc123

# webhooks.create
webhook = client.webhooks.create(
    "Billing", "https://billing.example.com/flowmaestro", ["execution.completed"]
)["data"]
print(webhook["is_active"])  # True

# webhooks.update
webhook = client.webhooks.update("wh_abc123", is_active=False)["data"]
print(webhook["is_active"])  # False

# webhooks.delete
print(client.webhooks.delete("wh_abc123")["data"]["deleted"])  # True

# webhooks.test
print(client.webhooks.test("wh_abc123")["data"]["success"])  # True

# webhooks.list_deliveries
for delivery in client.webhooks.list_deliveries("wh_abc123")["data"]:
    print(delivery["event_type"], delivery["response_status"])

# webhooks.iterate_deliveries
for delivery in client.webhooks.iterate_deliveries("wh_abc123"):
    print(delivery["event_type"], delivery["response_status"])

# FlowMaestroClient
from flowmaestro import FlowMaestroClient

with FlowMaestroClient(api_key="fm_live_...", timeout=10.0, max_retries=5) as client:
    print(client.workflows.list().status_code)  # 200

# client.with_options
patient = client.with_options(timeout=120.0, headers={"X-Team": "billing"})
print(patient.workflows.get("wf_123").status_code)  # 200

# client.request
reply = client.request("GET", "/workflows", params={"per_page": 1})
print(len(reply["data"]))  # 1

# client.close
from flowmaestro import ClientClosedError, FlowMaestroClient

client = FlowMaestroClient(api_key="fm_live_...")
client.close()
try:
    client.workflows.list()
except ClientClosedError as error:
    print(error.code)  # client_closed

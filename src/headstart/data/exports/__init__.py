"""What annotation tools export, one module for each form."""

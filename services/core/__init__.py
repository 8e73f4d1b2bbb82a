"""What every service and every training job computes with; it never imports a service or a training job."""
